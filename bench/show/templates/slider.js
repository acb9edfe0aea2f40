// The only script of the page: it turns the images of a crop into a slider. Without it they stand side by side.
for (const box of document.querySelectorAll(".slider")) {
  const stage = box.querySelector(".stage"), range = box.querySelector("input");
  const [left, right] = box.querySelectorAll("select"), below = new Image(), above = new Image();
  const source = name => [...box.parentNode.querySelectorAll("figure img")].find(image => image.alt === name).src;
  const draw = () => {
    below.src = source(right.value);
    above.src = source(left.value);
    below.alt = "right of the line: " + right.value;
    above.alt = "left of the line: " + left.value;
    const ends = { 0: "0%", 100: "100%" };
    stage.style.setProperty("--at", ends[range.value] || `calc(22px + (100% - 44px) * ${range.value / 100})`);
    range.setAttribute("aria-valuetext", `${range.value} % ${left.value}, the rest ${right.value}`);
  };
  above.className = "above";
  stage.prepend(below, above);
  for (const control of [left, right, range]) control.addEventListener("input", draw);
  box.hidden = false;
  draw();
}

"""Style sheet of the report page. It names no file and no font that must be fetched."""

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfaf8; --card: #ffffff; --ink: #1c2126; --soft: #5c6670; --line: #dfe2e5; --band: #f0f1f2;
  --good: #0a7d4b; --bad: #b3361f; --warn: #8a5a00; --warn-paper: #fff6e0;
  --e0: #2463c9; --e1: #bd4c07; --e2: #0a8060; --e3: #a63a95; --e4: #8a6d00; --e5: #5b5fc7;
  --e6: #b8324a; --e7: #3d7f94;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #12161a; --card: #1a2026; --ink: #e8ebee; --soft: #9aa5b0; --line: #323a42; --band: #222931;
    --good: #4fd39a; --bad: #ff8b73; --warn: #f0c064; --warn-paper: #2b2412;
    --e0: #6ea8ff; --e1: #ff9d5c; --e2: #4fd1ab; --e3: #e68bd8; --e4: #dcc04a; --e5: #a5a8ff;
    --e6: #ff8799; --e7: #7cc6dd;
  }
}
* { box-sizing: border-box; }
@media (prefers-reduced-motion: no-preference) { html { scroll-behavior: smooth; } }
:focus-visible { outline: 3px solid var(--e0); outline-offset: 2px; border-radius: 4px; }
a { color: var(--e0); }
[hidden] { display: none !important; }
body { margin: 0; overflow-wrap: anywhere; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 64px; }
header p { margin: 0; color: var(--soft); }
.kicker { text-transform: uppercase; letter-spacing: .09em; font-size: .78rem; font-weight: 600; }
h1 { font-size: clamp(1.35rem, 3.4vw, 2rem); line-height: 1.25; letter-spacing: -.015em; margin: 10px 0 12px;
  text-wrap: balance; }
h2 { font-size: 1.15rem; margin: 0 0 4px; letter-spacing: -.01em; }
h3 { font-size: .98rem; margin: 22px 0 8px; }
section { margin-top: 30px; background: var(--card); border: 1px solid var(--line); border-radius: 14px;
  padding: 22px 24px 24px; }
.legend + p, .scroll + dl { margin-top: 16px; }
section > p { margin: 0 0 10px; color: var(--soft); max-width: 72ch; }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin-top: 22px; font-size: .9rem; }
nav a { padding: 4px 0; }
section { scroll-margin-top: 12px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px; margin-top: 26px; }
.cards div { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 14px 18px; }
.cards span { display: block; color: var(--soft); font-size: .82rem; }
.cards b { display: block; font-size: 1.6rem; font-weight: 650; letter-spacing: -.02em; line-height: 1.3; }
.note { border-left: 4px solid var(--warn); background: var(--warn-paper); border-radius: 0 10px 10px 0;
  padding: 10px 16px; margin-top: 22px; }
.note p { margin: 4px 0; }
svg { display: block; max-width: 100%; height: auto; margin: 0 auto; font: 12px system-ui, sans-serif; }
svg.narrow { display: none; }
svg text { fill: var(--soft); }
svg .title { font-size: 12.5px; }
svg .hint { font-style: italic; }
svg .name { fill: var(--ink); font-size: 13px; }
svg .value { font-weight: 600; }
svg .front { fill: none; stroke: var(--ink); stroke-width: 1.6; opacity: .75; }
svg .dominated :is(.disc, .core, .leader) { opacity: .35; }
svg .dominated .badge { fill: var(--card); stroke: var(--c); stroke-width: 1.5; }
svg .dominated .mark { fill: var(--ink); }
svg .area { fill: var(--c); opacity: .14; }
svg .curve { fill: none; stroke: var(--c); stroke-width: 2; }
svg .shade { fill: var(--c); opacity: .22; }
svg .trace { fill: none; stroke: var(--ink); stroke-width: 1.7; stroke-linejoin: round; }
svg .d1 { stroke-dasharray: 7 3; }
svg .d2 { stroke-dasharray: 2 3; }
svg .d3 { stroke-dasharray: 9 3 2 3; }
svg.key { display: inline-block; width: 34px; height: 8px; vertical-align: middle; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .band { fill: var(--band); opacity: .75; }
svg .level { stroke: var(--soft); stroke-width: 1.2; stroke-dasharray: 5 4; }
svg .disc { fill: var(--c); fill-opacity: .22; stroke: var(--c); stroke-width: 1.4; }
svg .core { fill: var(--c); }
svg .leader { stroke: var(--c); stroke-width: 1; opacity: .7; }
svg .badge { fill: var(--c); }
svg .mark { fill: var(--card); font-weight: 700; }
svg .dots { stroke: var(--c); stroke-width: 4.6; stroke-linecap: round; opacity: .65; fill: none; }
svg .rings { stroke: var(--ink); stroke-width: 8; stroke-linecap: round; fill: none; }
svg .median { stroke: var(--ink); stroke-width: 2; }
svg .p90 { stroke: var(--ink); stroke-width: 1.4; stroke-dasharray: 3 3; }
.e0 { --c: var(--e0); } .e1 { --c: var(--e1); } .e2 { --c: var(--e2); } .e3 { --c: var(--e3); }
.e4 { --c: var(--e4); } .e5 { --c: var(--e5); } .e6 { --c: var(--e6); } .e7 { --c: var(--e7); }
.chip { display: inline-block; min-width: 1.5em; padding: 0 .4em; border-radius: 1em; background: var(--c);
  color: var(--card); font-weight: 700; font-size: .8rem; text-align: center; line-height: 1.5em; }
.legend { list-style: none; padding: 0; margin: 14px 0 0; display: grid; gap: 4px 22px;
  grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); font-size: .9rem; }
.scroll { overflow-x: auto; margin: 0 -8px; padding: 0 8px; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 8px 7px; border-bottom: 1px solid var(--line); vertical-align: top;
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
td:first-child { white-space: normal; min-width: 230px; }
td small { display: block; color: var(--soft); font-size: .78rem; }
tr:last-child td { border-bottom: 0; }
code { font-size: .82rem; }
.files code { display: block; color: var(--soft); }
details { border-top: 1px solid var(--line); padding: 10px 0; }
summary { cursor: pointer; }
table.layers { width: auto; min-width: 60%; margin-top: 8px; }
.layers td:nth-child(2) { text-align: left; }
.layers th:nth-child(2) { text-align: left; }
.layers td:last-child { width: 180px; min-width: 80px; }
.bar { display: block; height: .9em; margin-top: .25em; border-radius: 3px; background: var(--e0); }
.good { color: var(--good); } .bad { color: var(--bad); }
.small { font-size: .84rem; color: var(--soft); }
.strip { display: flex; flex-wrap: wrap; gap: 14px 20px; align-items: flex-start; }
.slider { flex: 0 1 400px; min-width: 0; --handle: 44px; }
.strip .crops { flex: 1 1 340px; }
.stage { position: relative; overflow: hidden; border-radius: 10px; --at: 50%; touch-action: pan-y;
  background: var(--band); }
.stage:focus-within { outline: 3px solid var(--e0); outline-offset: 2px; }
.stage img { position: absolute; inset: 0; width: 100%; height: 100%; image-rendering: pixelated; }
.stage .above { clip-path: inset(0 calc(100% - var(--at)) 0 0); }
.stage::before, .stage::after { content: ""; position: absolute; z-index: 1; left: var(--at); pointer-events: none; }
.stage::before { top: 0; bottom: 0; width: 2px; margin-left: -1px; background: #fff; box-shadow: 0 0 3px #000; }
.stage::after { top: 50%; width: 22px; height: 22px; margin: -11px; border-radius: 50%; background: #fff;
  box-shadow: 0 0 4px #000; }
.stage input { position: absolute; z-index: 2; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0;
  cursor: ew-resize; appearance: none; -webkit-appearance: none; }
.stage input::-webkit-slider-thumb { -webkit-appearance: none; width: var(--handle); height: 100vh; }
.stage input::-moz-range-thumb { width: var(--handle); height: 100vh; border: 0; }
.sides { display: flex; justify-content: space-between; gap: 10px; margin-top: 8px; font-size: .86rem;
  color: var(--soft); }
.sides label { flex: 1; min-width: 0; }
.sides select { width: 100%; min-height: 34px; font: inherit; color: var(--ink); background: var(--card);
  border: 1px solid var(--soft); border-radius: 8px; }
.crops { display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(148px, 1fr)); }
figure { margin: 0; }
figure img { width: 100%; display: block; border-radius: 8px; image-rendering: pixelated; background: var(--band); }
figcaption { font-size: .82rem; margin-top: 5px; line-height: 1.35; }
figcaption small { color: var(--soft); display: block; }
dl { display: grid; grid-template-columns: minmax(120px, 190px) minmax(0, 1fr); gap: 6px 18px; margin: 10px 0 0;
  font-size: .92rem; }
dt { color: var(--soft); }
dd { margin: 0; }
pre { background: var(--band); border-radius: 10px; padding: 12px 14px; margin: 8px 0 0; font-size: .84rem;
  white-space: pre-wrap; }
footer { margin-top: 34px; color: var(--soft); font-size: .84rem; }
@media (max-width: 640px) {
  main { padding: 24px 14px 44px; }
  section { padding: 18px 14px; border-radius: 12px; }
  svg.wide { display: none; }
  svg.narrow { display: block; }
  .slider { flex-basis: 100%; }
  .strip .crops { flex-basis: 100%; }
  td:first-child { min-width: 165px; }
  .layers td:first-child { min-width: 110px; }
  .sides select { min-height: 44px; }
  nav a { padding: 8px 0; }
  .cards { grid-template-columns: 1fr 1fr; }
  .cards b { font-size: 1.25rem; }
  .crops { grid-template-columns: 1fr 1fr; }
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dd { margin-bottom: 8px; }
}
@media print { section { break-inside: avoid; } nav, .slider { display: none; } }
"""

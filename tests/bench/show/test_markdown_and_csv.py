import csv
import dataclasses
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from drc_deploy.bench.report.records import NotMeasured, Report
from drc_deploy.bench.show.csv import NAMES, csv_text
from drc_deploy.bench.show.markdown import code, markdown_text, prose, table
from drc_deploy.printing import one_line
from tests.bench import fakes
from tests.bench.reports import quiet, steady, timed_otherwise, with_energy, with_machine

PARSER = MarkdownIt("commonmark").enable("table")
"""A second opinion of what Markdown means."""
NASTY = (
    "a|b",
    "a\\|b",
    "`x`",
    "``",
    "<b>&amp;",
    "_a_ *b*",
    "[x](y)",
    "=1+1",
    "a\nb",
    'a, "b"',
    "-x",
    " ",
    "~~x~~",
    "@me",
)


def cells(markdown: str) -> list[list[str]]:
    """Render a table and give the text of its cells."""
    rows: list[list[str]] = []
    for token in PARSER.parse(markdown):
        if token.type == "tr_open":
            rows.append([])
        if token.type == "inline":
            kinds = {child.type for child in token.children or ()}
            assert kinds <= {"text", "code_inline", "html_inline", "text_special"}, kinds
            rows[-1].append("".join(c.content for c in token.children or () if c.type != "html_inline"))
    return rows


@given(st.lists(st.text(max_size=12), min_size=2, max_size=2) | st.permutations(NASTY).map(lambda names: names[:2]))
def test_every_text_is_one_cell_that_shows_it(texts: list[str]) -> None:
    shown = [" ".join(one_line(text).split(" ")) for text in texts]
    rows = cells(table(["x", *map(prose, texts)], [["y", *map(prose, texts)], ["z", *map(code, texts)]]))
    assert [row[0] for row in rows] == ["x", "y", "z"]
    for row in rows:
        assert [cell.strip() for cell in row[1:]] == [text.strip() for text in shown]


@pytest.mark.parametrize("name", ["@someone.onnx", "#12.onnx", "https://x.y", "a|@someone"])
def test_a_name_in_markdown_is_code_so_that_it_mentions_nobody(name: str) -> None:
    assert code(name).startswith(("`", "<code>"))


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_csv_has_one_row_for_each_engine_with_units_and_gaps() -> None:
    engine = with_energy(steady("b", 20, 30.25), 2.5)
    rows = read(csv_text([quiet(engine, steady("a", 10))]))
    assert [(row["engine"], row["status"]) for row in rows] == [
        ("a", "measured"),
        ("b", "measured"),
        ("x.plan", "skipped"),
    ]
    assert float(rows[1]["latency_median_ms"]) == engine.latency.median_ms
    assert (rows[1]["psnr_y_db"], rows[1]["psnr_y_gain_over_bicubic_db"]) == ("30.25", "2.25")
    assert (rows[1]["energy_per_image_j"], rows[0]["energy_per_image_j"]) == ("2.5", "")
    assert (rows[0]["latency_p90_ms"], rows[0]["peak_device_memory_bytes"], rows[0]["tile_height_px"]) == ("", "", "")
    assert rows[2]["reason"] == "There is no GPU. Run the ONNX."
    assert rows[2]["latency_median_ms"] == ""
    assert rows[0]["warm_up_settled"] == "true"


def test_an_image_without_an_error_has_an_infinite_psnr_not_an_empty_cell() -> None:
    perfect = dataclasses.replace(steady("a", 1), quality=fakes.engine("a", 1, None).quality)
    assert read(csv_text([quiet(perfect)]))[0]["psnr_y_db"] == "inf"


def test_the_columns_of_the_csv_stay() -> None:
    """Scripts of users read them: add new ones at the end."""
    first = "machine,created,drc_deploy,engine,status,reason,model,scale,precision,tile_height_px,tile_width_px,"
    assert csv_text([quiet(steady("a", 1))]).startswith(first)
    assert NAMES[-1] == "checkpoint_sha256"
    assert len(NAMES) == len(set(NAMES)) == 41


def test_every_column_of_the_csv_has_a_figure_from_somewhere() -> None:
    """A column that is misspelled where it is filled would be an error; one that is never filled would be empty."""
    full = fakes.engine("full", 10.0, runs=400)
    network = dataclasses.replace(full.engine, tile=(8, 8))
    memory = dataclasses.replace(full.peak_host_memory, value=1)
    full = with_energy(dataclasses.replace(full, engine=network, peak_device_memory=memory), 1.0)
    settings = dataclasses.replace(quiet(full).settings, threads=2)
    rows = read(csv_text([dataclasses.replace(quiet(full), settings=settings)]))
    assert [name for name in NAMES if not any(row[name] for row in rows)] == []


@pytest.mark.parametrize("name", NASTY)
def test_names_come_back_from_the_csv_and_none_is_a_formula(name: str) -> None:
    (row, _) = read(csv_text([quiet(steady(name, 1))]))
    assert row["engine"] == ("'" if name[0] in "=-@" else "") + one_line(name)
    assert not row["engine"].startswith(("=", "+", "-", "@"))


def test_machines_of_one_kind_are_numbered() -> None:
    rows = read(
        csv_text([quiet(steady("a", 1)), quiet(steady("a", 1)), with_machine(quiet(steady("a", 1)), board="Orin")])
    )
    assert [row["machine"] for row in rows][::2] == ["Test CPU <fast> (1)", "Test CPU <fast> (2)", "Orin"]


def markdown(report: Report) -> list[list[str]]:
    return cells("\n".join(line for line in markdown_text([report]).splitlines() if line.startswith("|")))


def test_the_markdown_has_the_sentence_the_table_and_the_machine() -> None:
    report = fakes.report(steady("b_1.onnx", 20, 30.25), steady("a|.onnx", 10))
    text = markdown_text([report])
    for words in (
        "one is faster &#60;than&#62; the other",
        "Test CPU &#60;fast&#62;, 4 cores",
        "input 96x64",
        "numpy 2.0",
    ):
        assert words in text
    assert "skipped: `x.plan`: There is no GPU." in text
    assert "warning: The machine was busy." in text
    rows = markdown(report)
    assert [row[0] for row in rows] == ["engine", "a|.onnx", "b_1.onnx", "bicubic x4"]
    assert rows[2][rows[0].index("gain dB")] == "+2.25"
    assert "device MiB" not in rows[0]  # a column without any figure
    assert "J per image" not in rows[0]


def test_a_share_of_several_images_is_marked_and_comes_last() -> None:
    report = quiet(timed_otherwise("theirs", 1.0), steady("ours", 10.0))
    rows = markdown(report)
    assert [row[0] for row in rows] == ["engine", "ours", "theirs", "bicubic x4"]
    assert [row[1].split(" ")[0] for row in rows[1:3]] == ["10.0", "1.0*"]
    (note,) = (line for line in markdown_text([report]).splitlines() if "timed in another way" in line)
    shown = re.sub("<[^>]*>", "", MarkdownIt("commonmark").render(note)).strip()
    assert shown == (
        "* theirs is timed in another way, so its median does not compare with the others: a run is 2 images in "
        "flight, its time divided by &lt;2&gt;"
    )


def test_energy_has_a_column_where_there_is_some() -> None:
    rows = markdown(quiet(with_energy(steady("a", 1), 2.5)))
    assert rows[1][rows[0].index("J per image")] == "2.5"


def test_a_report_without_engines_has_no_table_but_its_reasons() -> None:
    text = markdown_text([quiet()])
    assert "|" not in text
    assert "There is no GPU." in text


def test_a_name_that_cannot_be_encoded_does_not_stop_the_report() -> None:
    report = dataclasses.replace(
        quiet(steady("\udcff.onnx", 1)), not_measured=(NotMeasured("\udcfe", "failed", "", ""),)
    )
    assert csv_text([report]).encode()
    assert markdown_text([report]).encode()

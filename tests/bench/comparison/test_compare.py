import dataclasses
from pathlib import Path

import pytest

from drc_deploy.bench.comparison.compare import SAME_SHARE, Change, ReportComparison, compare_reports, match_engines
from drc_deploy.bench.comparison.thresholds import find_crossings, parse_limits
from drc_deploy.bench.machine.memory import Reading
from drc_deploy.bench.measure import quality
from drc_deploy.bench.measure.latency import summarise
from drc_deploy.bench.report.records import Baseline, NotMeasured, Report
from drc_deploy.bench.show.changes import comparison_text
from drc_deploy.errors import InputError, UsageError
from tests.bench import fakes
from tests.bench.reports import quiet, steady, with_energy, with_machine, with_power_mode, with_settings

MIB = 1 << 20


def compared(before: Report, after: Report, *, force: bool = False) -> ReportComparison:
    return compare_reports(before, after, ("a.json", "b.json"), force=force)


def crossed(before: Report, after: Report, *limits: str) -> list[str]:
    return [item.figure for item in find_crossings(compared(before, after), after, parse_limits(limits))]


def test_an_engine_that_takes_a_quarter_longer_is_slower_by_that() -> None:
    (change,) = compared(quiet(steady("x", 100)), quiet(steady("x", 125))).engines
    assert change.result == "slower"
    assert change.latency.ratio == pytest.approx(1.25)
    assert change.latency.interval is not None
    assert change.latency.interval[0] < 1.25 < change.latency.interval[1]
    assert change.median_ms.growth == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("ms", "result"), [(80.0, "faster"), (104.0, "no significant change"), (100.0, "no significant change")]
)
def test_less_than_two_runs_differ_by_is_no_significant_change(ms: float, result: str) -> None:
    assert compared(quiet(steady("x", 100)), quiet(steady("x", ms))).engines[0].result == result


NOISY = [50.0, 90.0, 40.0, 80.0, 55.0, 70.0, 45.0, 95.0]
"""Rounds on a busy machine, where half of the runs lie within 35 ms around 66 ms: a change must be 2.1 times."""


@pytest.mark.parametrize(("ms", "result"), [(40.0, "too much variation"), (10.0, "slower"), (660.0, "faster")])
def test_on_a_noisy_machine_only_a_change_that_is_larger_than_the_noise_counts(ms: float, result: str) -> None:
    noisy = quiet(dataclasses.replace(fakes.paced("x", NOISY), engine=steady("x", 1).engine))
    calm = quiet(steady("x", ms))
    assert compared(calm, noisy).engines[0].result == result
    assert crossed(calm, noisy, "5%") == (["latency"] if result == "slower" else [])
    assert result in comparison_text(compared(calm, noisy), ())


def test_one_slow_run_in_a_steady_machine_hides_no_change() -> None:
    engine = steady("x", 125)
    rounds = [list(round_ms) for round_ms in engine.latency.rounds_ms]
    rounds[3][1] = 1250.0
    hiccup = dataclasses.replace(engine, latency=summarise(rounds))
    assert hiccup.latency.std_ms > 0.5 * hiccup.latency.mean_ms
    assert compared(quiet(steady("x", 100)), quiet(hiccup)).engines[0].result == "slower"


def test_engines_match_by_name_first_and_by_checkpoint_where_names_differ() -> None:
    before = [steady("same", 1, checkpoint="1" * 64), steady("old", 1, checkpoint="2" * 64), steady("gone", 1)]
    after = [steady("new", 1, checkpoint="2" * 64), steady("same", 1, checkpoint="3" * 64)]
    matches = match_engines(before, after)
    assert [(match.before.name, match.after.name, match.matched_by) for match in matches] == [
        ("same", "same", "name"),
        ("old", "new", "checkpoint"),
    ]


@pytest.mark.parametrize("network", [{"precision": "fp16"}, {"scale": 8}, {"tile": (64, 64)}])
def test_another_precision_scale_or_tile_is_another_engine(network: dict[str, object]) -> None:
    assert match_engines([steady("old", 1)], [steady("new", 1, network=network)]) == []
    assert match_engines([steady("old", 1)], [steady("new", 1, device="another")]) == []


def test_a_name_at_another_scale_is_another_engine() -> None:
    assert match_engines([steady("x", 1)], [steady("x", 1, network={"scale": 8})]) == []


def test_an_engine_that_could_be_either_of_two_is_left_alone() -> None:
    assert match_engines([steady("old", 1)], [steady("new", 1), steady("newer", 1)]) == []


def test_engines_of_only_one_report_are_named() -> None:
    found = compared(
        quiet(steady("x", 1), steady("gone", 1, checkpoint="1" * 64)),
        quiet(steady("x", 1), steady("new", 1, checkpoint="2" * 64)),
    )
    assert (found.only_before, found.only_after) == (("gone",), ("new",))


def test_reports_without_a_common_engine_are_refused_with_their_names() -> None:
    with pytest.raises(InputError, match="no engine in common: x and y"):
        compared(quiet(steady("x", 1)), quiet(steady("y", 1, checkpoint="1" * 64)))


@pytest.mark.parametrize("sides", [(True, False), (False, True)])
def test_a_report_without_engines_is_refused(sides: tuple[bool, bool]) -> None:
    reports = [quiet(steady("x", 1)) if side else quiet() for side in sides]
    with pytest.raises(InputError, match=r"[ab]\.json has no measured engine"):
        compared(*reports)


BASE = quiet(steady("x", 10))
OTHER_PIXELS = dataclasses.replace(
    BASE, baselines=(dataclasses.replace(BASE.baselines[0], quality=steady("x", 1, 27.0).quality),)
)


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (with_machine(BASE, cpu="Another CPU"), "processor"),
        (with_machine(BASE, board="Jetson"), "board"),
        (with_machine(BASE, logical_cores=8), "usable cores"),
        (with_settings(BASE, width=128), "input size"),
        (with_settings(BASE, threads=2), "threads"),
        (with_settings(BASE, input_image="coffee"), "input image"),
        (OTHER_PIXELS, "pixels for quality at x4"),
    ],
)
def test_another_machine_or_setting_is_refused_unless_forced(other: Report, what: str) -> None:
    with pytest.raises(InputError, match=f"do not compare: they differ in {what} "):
        compared(BASE, other)
    forced = compared(BASE, other, force=True)
    assert [item.what for item in forced.differences if item.forbids] == [what]
    assert f"- {what}:" in comparison_text(forced, ())


def test_another_power_mode_is_refused_but_an_unknown_one_is_not() -> None:
    with pytest.raises(InputError, match=r"power mode \(15W before, MAXN after\)"):
        compared(with_power_mode(BASE, "15W"), with_power_mode(BASE, "MAXN"))
    assert compared(BASE, with_power_mode(BASE, "MAXN")).differences == ()


def test_another_version_of_a_library_is_listed_and_compared() -> None:
    found = compared(BASE, with_machine(BASE, packages={"numpy": "3.0"}))
    assert [(item.what, item.before, item.after) for item in found.differences] == [("numpy", "2.0", "3.0")]


def test_the_same_images_in_another_folder_are_the_same_images() -> None:
    assert compared(BASE, with_settings(BASE, data="elsewhere")).differences == ()


def test_psnr_of_a_stopped_run_is_compared_on_its_images() -> None:
    whole, stopped = scored({"a": 30.0, "b": 20.0}, 28.0), scored({"a": 29.9}, 28.0)
    found = compared(whole, stopped)
    (difference,) = found.differences
    assert (difference.what, difference.forbids) == ("images at x4 (the first 1 are compared)", False)
    assert found.engines[0].psnr_y_db == Change(30.0, 29.9)
    assert bool(crossed(whole, stopped, "psnr=0.05"))
    assert not crossed(whole, stopped, "psnr=0.2")


def test_runs_that_share_some_pixels_and_not_others_are_refused() -> None:
    with pytest.raises(InputError, match="pixels for quality at x4"):
        compared(scored({"a": 30.0, "b": 20.0}, 28.0), scored({"a": 30.0}, 27.0))
    with pytest.raises(InputError, match="pixels for quality at x4"):
        compared(scored({"a": 30.0}, 28.0), scored({"b": 30.0}, 28.0))
    with pytest.raises(InputError, match="pixels for quality at x4"):
        compared(scored({"a": 30.0, "b": 20.0, "c": 20.0}, 28.0), scored({"a": 30.0, "c": 20.0}, 28.0))


def scored(psnr: dict[str, float], bicubic: float) -> Report:
    """Return a report of one engine on images that bicubic upscaling all does alike."""
    rows = [quality.ImageQuality(image, db, 0.9) for image, db in psnr.items()]
    baseline = quality.summarise([quality.ImageQuality(image, bicubic, 0.8) for image in psnr])
    report = quiet(dataclasses.replace(steady("x", 10), quality=quality.summarise(rows)))
    return dataclasses.replace(report, baselines=(Baseline(4, baseline),))


def test_a_change_of_every_engine_is_ascribed_to_the_machine() -> None:
    before = quiet(steady("x", 100), steady("y", 50, checkpoint="1" * 64))
    after = quiet(steady("x", 120), steady("y", 60, checkpoint="1" * 64))
    notes = " ".join(compared(before, after).notes)
    assert "Every engine takes 1.20 to 1.20 times as long" in notes
    assert "The same file with the same programs has another latency: x, y." in notes
    only_one = quiet(steady("x", 120), steady("y", 50, checkpoint="1" * 64))
    assert "Every engine" not in " ".join(compared(before, only_one).notes)
    assert "another latency" not in " ".join(compared(before, quiet(steady("x", 120, sha256="f" * 64))).notes)


def test_warnings_of_both_runs_are_repeated() -> None:
    busy = dataclasses.replace(BASE, warnings=("It was busy.",))
    assert compared(busy, busy).notes == ("a.json: It was busy.", "b.json: It was busy.")


def test_energy_is_compared_where_both_have_it() -> None:
    found = compared(quiet(with_energy(steady("x", 1), 2.0)), quiet(with_energy(steady("x", 1), 3.0)))
    assert found.engines[0].energy_per_image_j.growth == pytest.approx(0.5)
    text = comparison_text(found, ())
    assert "2 -> 3" in text
    assert "J per image" not in comparison_text(compared(BASE, BASE), ())


def test_energies_of_different_parts_are_not_compared() -> None:
    board = with_energy(steady("x", 1), 2.0, "board")
    found = compared(quiet(board), quiet(with_energy(steady("x", 1), 1.0, "module")))
    assert found.engines[0].energy_per_image_j.before is None
    assert [(item.what, item.before, item.after) for item in found.differences] == [("energy is of", "board", "module")]


@pytest.mark.parametrize(
    ("ms", "limit", "is_crossed"),
    [
        (125.0, "5%", True),
        (125.0, "latency=20%", True),
        (125.0, "30%", False),
        (80.0, "5%", False),
        (100.5, "5%", False),
    ],
)
def test_a_limit_of_latency(ms: float, limit: str, is_crossed: bool) -> None:
    assert bool(crossed(quiet(steady("x", 100)), quiet(steady("x", ms)), limit)) is is_crossed


WIDE = [0.94, 1.06, 0.97, 1.04, 1.02, 0.98, 1.01, 1.00]
"""Rounds of a machine that is less steady, but not noisy."""


@pytest.mark.parametrize(
    ("pace", "words"),
    [
        (1.25, "above the limit of 5.0%; so is the whole interval"),
        (1.08, "above the limit of 5.0%; the interval excludes 1, but begins below the limit"),
    ],
)
def test_a_crossing_says_how_sure_it_is(pace: float, words: str) -> None:
    before, after = (
        quiet(dataclasses.replace(steady("x", 1), latency=summarise([[scale * at] * 3 for at in WIDE])))
        for scale in (100.0, 100.0 * pace)
    )
    (crossing,) = find_crossings(compared(before, after), after, parse_limits(["5%"]))
    assert words in crossing.reason
    low, high = compared(before, after).engines[0].latency.interval or (0.0, 0.0)
    assert f"{pace:.3f} times as long ({low:.3f} to {high:.3f})" in crossing.reason
    assert (low > 1.05) is ("whole" in words)


def test_a_limit_of_latency_below_the_noise_between_runs_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="below 5% cannot be checked"):
        parse_limits(["4.9%"])
    assert parse_limits(["5%"]) == {"latency": SAME_SHARE}


@pytest.mark.parametrize(
    ("host", "device", "expected"),
    [(210, 100, []), (230, 100, ["memory"]), (200, 120, ["memory"]), (150, 90, []), (230, None, ["memory"])],
)
def test_a_limit_of_memory_holds_for_host_and_device(host: int, device: int | None, expected: list[str]) -> None:
    def report(host: int, device: int | None) -> Report:
        readings = Reading(host * MIB, ""), Reading(device * MIB if device else None, "")
        return quiet(steady("x", 1, peak_host_memory=readings[0], peak_device_memory=readings[1]))

    assert crossed(report(200, 100), report(host, device), "memory=10%") == expected


def test_memory_where_there_was_none_crosses_any_limit() -> None:
    first, second = (quiet(steady("x", 1, peak_device_memory=Reading(size, ""))) for size in (0, 50 * MIB))
    assert crossed(first, second, "memory=900%") == ["memory"]
    assert crossed(first, first, "memory=0%") == []


def test_a_limit_that_cannot_be_checked_does_not_pass() -> None:
    unknown = quiet(steady("x", 1, peak_host_memory=Reading(None, "")))
    assert crossed(unknown, unknown, "memory=10%") == ["memory"]


@pytest.mark.parametrize(
    ("before", "after", "is_crossed"),
    [(30.0, 29.94, True), (30.0, 29.96, False), (30.0, 31.0, False), (None, 50.0, True), (30.0, None, False)],
)
def test_a_limit_of_psnr(before: float | None, after: float | None, is_crossed: bool) -> None:
    first, second = (
        quiet(dataclasses.replace(steady("x", 1), quality=fakes.engine("x", 1, db).quality)) for db in (before, after)
    )
    assert bool(crossed(first, second, "psnr=0.05")) is is_crossed


def test_psnr_of_other_images_does_not_pass_even_where_it_is_forced() -> None:
    comparison = compared(BASE, OTHER_PIXELS, force=True)
    (crossing,) = find_crossings(comparison, OTHER_PIXELS, parse_limits(["psnr=9"]))
    assert "the images are not the same" in crossing.reason


def test_an_engine_that_fails_since_crosses_every_limit_and_one_that_was_left_out_none() -> None:
    before = quiet(steady("y", 1), steady("x", 1, checkpoint="1" * 64))
    after = dataclasses.replace(quiet(steady("y", 1)), not_measured=(NotMeasured("x", "failed", "It broke.", ""),))
    assert crossed(before, after, "5%") == ["latency"]
    assert crossed(before, quiet(steady("y", 1)), "5%") == []
    assert crossed(before, after) == []


@pytest.mark.parametrize(
    "text", ["", "5", "-5%", "speed=5%", "psnr=5%", "memory=5dB", "nan%", "latency=", "5%%", "\u0665%"]
)
def test_a_text_that_is_not_a_limit_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match="is not a limit"):
        parse_limits([text])


def test_limits_are_read_with_their_units() -> None:
    assert parse_limits(["12.5%", "memory=10%", "psnr=0.05dB"]) == {"latency": 0.125, "memory": 0.1, "psnr": 0.05}
    with pytest.raises(UsageError, match="two limits"):
        parse_limits(["5%", "latency=6%"])


def test_the_text_has_a_row_for_each_engine_and_the_limits_of_the_interval(tmp_path: Path) -> None:
    before = quiet(steady("a|b.onnx", 100), steady("old", 10, checkpoint="1" * 64))
    after = quiet(steady("a|b.onnx", 125, 29.9, sha256="f" * 64), steady("new", 10, checkpoint="1" * 64))
    text = comparison_text(compared(before, after), find_crossings(compared(before, after), after, {"latency": 0.05}))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {rows[0].count("|")}
    for words in (
        "a&#124;b.onnx",
        "`old` -> `new`",
        "-0.100",
        "LIMIT CROSSED",
        "did not take turns",
        "same checkpoint",
    ):
        assert words in text

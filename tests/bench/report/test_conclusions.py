import dataclasses

import pytest

from drc_deploy.bench.machine.memory import Reading
from drc_deploy.bench.report.conclusions import by_latency, comparisons, find_warnings, gain_over_bicubic, summarise
from drc_deploy.bench.report.records import EngineResult, ProgramResult
from drc_deploy.bench.show.sentences import comparison_text
from tests.bench import fakes, reports

BUSY = [1.0, 1.7, 1.1, 2.4, 1.3, 1.9, 1.2, 1.5]
"""By how much another program slows the machine down in each round."""


def test_the_sentence_sets_the_fastest_against_the_best_image() -> None:
    sentence = summarise((fakes.engine("full.onnx", 100.0, 30.10), fakes.engine("cut.onnx", 50.0, 30.05)))
    assert sentence.startswith(
        "cut.onnx is 2.0x (2.0 to 2.0) as fast as full.onnx, with 1.00x its host memory, -0.05 dB: 50.1"
    )


def test_another_program_that_was_measured_under_noise_is_named_too() -> None:
    ours = fakes.paced("a", [10.0] * 8)
    restless = fakes.measurement(ours.latency, settled=False).stability
    program = ProgramResult("torch", "eager", "a", {}, None, None, 0, restless)
    theirs = dataclasses.replace(fakes.paced("a (torch)", [15.0] * 8), program=program)
    assert find_warnings((ours, theirs), None, 2)[0].startswith("The latency of a (torch) is uncertain: ")
    calm = dataclasses.replace(program, stability=fakes.measurement(reports.steady("a", 10).latency).stability)
    assert find_warnings((ours, dataclasses.replace(theirs, program=calm)), None, 2) == ()


def test_the_sentence_says_where_its_latencies_are_uncertain() -> None:
    full, cut = fakes.engine("full.onnx", 100.0, 30.10), fakes.engine("cut.onnx", 50.0, 30.05)
    calm = summarise((full, dataclasses.replace(cut, measurement=fakes.measurement(cut.latency))))
    restless = dataclasses.replace(cut, measurement=fakes.measurement(cut.latency, settled=False))
    assert summarise((full, restless)) == f"{calm} This is uncertain: see the warnings."


def test_engines_within_two_percent_are_a_tie() -> None:
    sentence = summarise((fakes.engine("a.onnx", 100.0, 30.1), fakes.engine("b.onnx", 98.5, 30.0)))
    assert sentence == (
        "a.onnx: 100.2 ms per image, 30.10 dB. No engine measured is more accurate or significantly faster."
    )


def test_an_engine_that_is_fastest_and_most_accurate_is_called_so() -> None:
    sentence = summarise((fakes.engine("a.onnx", 100.0, 30.2), fakes.engine("b.safetensors", 250.0, 30.1)))
    assert sentence.startswith("a.onnx is the fastest and the most accurate engine measured, 2.5x (2.5 to 2.5) as fast")


def test_the_fastest_engine_is_compared_with_the_slowest_where_none_is_more_accurate() -> None:
    sentence = summarise((fakes.engine("a.onnx", 100.0, 30.101), fakes.engine("b.safetensors", 250.0, 30.104)))
    assert sentence.startswith(
        "a.onnx is 2.5x (2.5 to 2.5) as fast as b.safetensors, with 1.00x its host memory, +0.00 dB"
    )
    assert sentence.endswith("No engine measured is more accurate or significantly faster.")


@pytest.mark.parametrize("rounds", [1, 5])
def test_too_few_rounds_name_no_fastest_engine(rounds: int) -> None:
    engines = (fakes.paced("a", [100.0] * rounds, 30.1), fakes.paced("b", [50.0] * rounds))
    assert summarise(engines) == (
        "a: 100.0 ms per image, 30.10 dB. No engine measured is more accurate. "
        "Too few rounds were measured to compare the speed."
    )
    assert comparison_text(comparisons(engines)[0]).endswith("2.000x as fast, too few rounds to compare.")


def test_what_is_timed_otherwise_comes_after_the_slowest() -> None:
    engines = (reports.timed_otherwise("theirs", 1.0), fakes.engine("b", 90.0), fakes.engine("a", 60.0))
    assert [engine.name for engine in by_latency(engines)] == ["a", "b", "theirs"]


def test_a_difference_inside_the_noise_of_the_rounds_is_not_significant() -> None:
    even = fakes.paced("a", [60.0] * 8)
    uneven = fakes.paced("b", [80.0, 85.0, 50.0, 48.0, 79.0, 52.0, 85.0, 81.0])
    assert uneven.latency.median_ms > 1.05 * even.latency.median_ms
    assert summarise((even, uneven)).startswith("a: 60.0 ms per image")


def test_noise_that_slows_down_both_engines_does_not_hide_a_difference() -> None:
    slow = fakes.paced("a", [100.0 * busy for busy in BUSY], psnr=30.1)
    fast = fakes.paced("b", [80.0 * busy for busy in BUSY])
    assert max(fast.latency.rounds_ms[3]) > slow.latency.median_ms
    assert summarise((slow, fast)).startswith(
        "b is 1.25x (1.25 to 1.25) as fast as a, with 1.00x its host memory, -0.10 dB"
    )


def test_an_engine_that_is_clearly_faster_counts_although_a_noisy_one_has_a_lower_median() -> None:
    best = fakes.paced("best", [100.0] * 8, psnr=30.5)
    noisy = fakes.paced("noisy", [20.0, 20.0, 20.0, 20.0, 20.0, 300.0, 300.0, 300.0])
    assert noisy.latency.median_ms < 50.0
    assert summarise((best, noisy, fakes.paced("steady", [50.0] * 8))).startswith("steady is 2.0x (2.0 to 2.0)")


def test_scales_are_not_compared_with_each_other() -> None:
    engines = (fakes.engine("a", 100.0, 30.1), fakes.engine("b", 50.0, 30.0), fakes.engine("c", 1.0, 24.0, scale=8))
    assert summarise(engines).startswith("At x4, b is 2.0x (2.0 to 2.0) as fast as a")


def test_one_engine_alone_is_compared_with_nothing() -> None:
    assert summarise((fakes.engine("a", 100.0, 30.1),)) == "a: 100.2 ms per image, 30.10 dB."


def test_a_perfect_engine_does_not_break_the_sentence() -> None:
    assert "no error at all" in summarise((fakes.engine("a", 100.0, None),))
    assert "nan" not in summarise((fakes.engine("a", 100.0, None), fakes.engine("b", 50.0, None)))
    faster = summarise((fakes.engine("a", 100.0, None), fakes.engine("b", 50.0, 30.0)))
    assert faster == "b is 2.0x (2.0 to 2.0) as fast as a, with 1.00x its host memory: 50.1 ms per image, 30.00 dB."


def with_memory(result: EngineResult, host: int | None, device: int | None) -> EngineResult:
    return dataclasses.replace(
        result, peak_host_memory=Reading(host, "measured"), peak_device_memory=Reading(device, "measured")
    )


def test_the_memory_of_the_gpu_is_compared_where_both_engines_have_it() -> None:
    full = with_memory(fakes.engine("full.plan", 100.0, 30.1), 500, 1000)
    cut = with_memory(fakes.engine("cut.plan", 50.0, 30.0), 500, 700)
    assert "as fast as full.plan, with 0.70x its device memory, -0.10 dB" in summarise((full, cut))
    on_cpu = with_memory(fakes.engine("cut.onnx", 50.0, 30.0), 400, None)
    assert "as fast as full.plan, with 0.80x its host memory, -0.10 dB" in summarise((full, on_cpu))
    unknown = with_memory(fakes.engine("cut.onnx", 50.0, 30.0), None, None)
    assert "as fast as full.plan, -0.10 dB" in summarise((full, unknown))


def test_precision_is_named_where_it_differs() -> None:
    half = fakes.engine("b", 50.0, 30.0)
    half = dataclasses.replace(half, engine=dataclasses.replace(half.engine, precision="fp16"))
    sentence = summarise((fakes.engine("a", 100.0, 30.1), half))
    assert sentence.startswith("b (fp16) is 2.0x (2.0 to 2.0) as fast as a (fp32), with")


def test_gain_is_the_difference_to_bicubic() -> None:
    report = fakes.report(fakes.engine("a", 100.0, 30.5), fakes.engine("b", 100.0, None))
    assert gain_over_bicubic(report, report.engines[0]) == 2.5
    assert gain_over_bicubic(report, report.engines[1]) is None


def test_a_quiet_machine_gives_no_warnings() -> None:
    assert find_warnings((fakes.engine("a", 100.0),), load_average=0.3, cores=2) == ()


def test_load_and_what_disturbed_an_engine_are_warned_of() -> None:
    steady = fakes.engine("a", 100.0)
    wild = dataclasses.replace(steady, name="wild", measurement=fakes.measurement(steady.latency, settled=False))
    calm = dataclasses.replace(steady, name="calm", measurement=fakes.measurement(steady.latency, settled=True))
    warnings = find_warnings((steady, wild, calm), load_average=1.5, cores=2)
    assert len(warnings) == 3
    assert "load 1.5" in warnings[0]
    assert warnings[1].startswith("The latency of wild is uncertain: its pace was still changing")
    assert "--min-seconds" in warnings[2]


def test_each_engine_is_compared_with_the_best_image_of_its_scale() -> None:
    engines = (fakes.engine("a", 100.0, 30.1), fakes.engine("b", 50.0, 30.0), fakes.engine("c", 1.0, 24.0, scale=8))
    (only,) = comparisons(engines)
    assert (only.engine, only.other, only.different) == ("b", "a", True)
    assert only.speedup == pytest.approx(2.0)

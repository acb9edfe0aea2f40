import dataclasses

from drc_deploy.bench.verdict import find_warnings, gain_over_bicubic, summarise
from tests.bench import fakes


def test_the_sentence_sets_the_fastest_against_the_best_image() -> None:
    sentence = summarise((fakes.engine("full.onnx", 100.0, 30.10), fakes.engine("cut.onnx", 50.0, 30.05)))
    assert sentence.startswith("cut.onnx is 2.0x faster than full.onnx at -0.05 dB: 50.1 ms an image, 30.05 dB")


def test_engines_within_five_percent_are_a_tie() -> None:
    sentence = summarise((fakes.engine("a.onnx", 100.0, 30.1), fakes.engine("b.onnx", 97.0, 30.0)))
    assert sentence.startswith("a.onnx has the best image and no engine is clearly faster")


def test_the_best_and_fastest_engine_is_set_against_the_slowest() -> None:
    sentence = summarise((fakes.engine("a.onnx", 100.0, 30.101), fakes.engine("b.safetensors", 250.0, 30.104)))
    assert sentence.startswith("No engine beats a.onnx, 2.5x as fast as b.safetensors")


def test_scales_are_not_compared_with_each_other() -> None:
    engines = (fakes.engine("a", 100.0, 30.1), fakes.engine("b", 50.0, 30.0), fakes.engine("c", 1.0, 24.0, scale=8))
    assert summarise(engines).startswith("b is 2.0x faster than a")


def test_a_perfect_engine_does_not_break_the_sentence() -> None:
    assert "no error at all" in summarise((fakes.engine("a", 100.0, None),))
    assert "nan" not in summarise((fakes.engine("a", 100.0, None), fakes.engine("b", 50.0, None)))


def test_gain_is_the_difference_to_bicubic() -> None:
    report = fakes.report(fakes.engine("a", 100.0, 30.5), fakes.engine("b", 100.0, None))
    assert gain_over_bicubic(report, report.engines[0]) == 2.5
    assert gain_over_bicubic(report, report.engines[1]) is None


def test_a_quiet_machine_gives_no_warnings() -> None:
    assert find_warnings((fakes.engine("a", 100.0),), load_average=0.3, cores=2) == ()


def test_load_drift_and_spread_are_warned_of() -> None:
    steady = fakes.engine("a", 100.0)
    wild = dataclasses.replace(steady, name="wild", latency=dataclasses.replace(steady.latency, std_ms=30.0))
    warnings = find_warnings((fakes.unsettled(steady), wild), load_average=1.5, cores=2)
    assert [word for word in ("load 1.5", "warm-up was over: a.", "wild (30%)") if word in " ".join(warnings)] == [
        "load 1.5",
        "warm-up was over: a.",
        "wild (30%)",
    ]

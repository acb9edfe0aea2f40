import pytest

from drc_deploy.bench.machine.telemetry.smi import open_smi
from drc_deploy.errors import MissingDependencyError
from tests.bench.machine.telemetry.trees import absent

IDLE = "Not Active, Not Active, Not Active, Not Active, Not Active"


class FakeSmi:
    """Knows the reasons under one prefix only, as drivers do, and refuses a whole question for one field."""

    def __init__(self, prefix: str, *rows: str) -> None:
        self.prefix, self.rows = prefix, rows

    def query(self, fields: str) -> str:
        if "reasons" in fields and f"{self.prefix}." not in fields:
            raise MissingDependencyError("nvidia-smi failed: a field is not a valid field to query.")
        columns = fields.count(",") + 1
        return "".join(", ".join(row.split(", ")[:columns]) + "\n" for row in self.rows)


@pytest.mark.parametrize("prefix", ["clocks_event_reasons", "clocks_throttle_reasons"])
def test_a_gpu_is_polled_with_its_reasons(prefix: str) -> None:
    fake = FakeSmi(prefix, f"251.50, 61, 1980, 87, Active, {IDLE.removeprefix('Not Active, ')}")
    source, found = open_smi(fake.query)
    read = dict(zip((sensor.name for sensor in source.sensors), source.sweep({}), strict=True))
    assert (read["GPU power"], read["GPU temperature"], read["GPU clock"], read["GPU load"]) == (251.5, 61, 1980, 87)
    assert [name for name, value in read.items() if name.startswith("GPU: ") and value] == ["GPU: software power cap"]
    assert found.meters[0].series == ("GPU power",)
    assert source.period_s >= 1.0  # each sweep is a program


def test_a_driver_without_reasons_still_tells_power() -> None:
    source, _ = open_smi(FakeSmi("no such prefix", "251.50, 61, 1980, 87").query)
    assert [sensor.kind for sensor in source.sensors] == ["power", "temperature", "clock", "load"]


def test_what_is_not_told_is_missing_and_not_zero() -> None:
    source, found = open_smi(FakeSmi("clocks_event_reasons", f"[N/A], 61, [Not Supported], 87, {IDLE}").query)
    assert [sensor.name for sensor in source.sensors][:2] == ["GPU temperature", "GPU load"]
    assert found.meters == ()
    assert set(found.missing) == {"power (GPU power)", "clock (GPU clock)"}


def test_a_gpu_that_disappears_is_a_gap_of_all() -> None:
    fake = FakeSmi("clocks_event_reasons", *[f"250, 60, 1900, 80, {IDLE}"] * 2)
    source, _ = open_smi(fake.query)
    fake.rows = fake.rows[:1]
    reasons: dict[str, str] = {}
    assert set(source.sweep(reasons)) == {None}
    assert "another number of GPUs" in reasons["GPU 0 power"]


def test_a_machine_without_it_or_without_numbers_is_told() -> None:
    with pytest.raises(MissingDependencyError, match="does not run"):
        open_smi(absent)
    with pytest.raises(MissingDependencyError, match="no number"):
        open_smi(FakeSmi("clocks_event_reasons", ", ".join(["[N/A]"] * 9)).query)
    with pytest.raises(MissingDependencyError, match="no number"):
        open_smi(FakeSmi("clocks_event_reasons", "No devices were found").query)

"""The contract of another program: a backend as ours, with its settings, which may time itself."""

from collections.abc import Callable

from drc_deploy.bench.measure.timing import Round, TimingBudget, time_runs
from drc_deploy.metrics import UInt8Image
from drc_deploy.runtime.backends.contract import Backend

TIMED = "a run is"
"""The setting that says what a timed run is, where it is not one image from memory to memory."""

Upscale = Callable[[UInt8Image], UInt8Image]


class ProgramBackend(Backend):
    """A network in another program, for the same tiler as ours."""

    @property
    def settings(self) -> dict[str, str]:
        """Version, threads, and what else was set, in words."""
        raise NotImplementedError

    def time(self, upscale: Upscale, image: UInt8Image, budget: TimingBudget) -> Round:
        """Time one round of ``upscale`` over this backend; a program that overlaps or times itself does it its way."""
        return time_runs(lambda: upscale(image), budget)

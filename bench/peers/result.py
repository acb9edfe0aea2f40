"""What the report says about an engine of another program, beside what it says about every engine."""

from dataclasses import dataclass

from drc_deploy.bench.measure.stability import Stability


@dataclass(frozen=True, slots=True)
class PeerResult:
    """How another program ran a network, and how near its output is to ours."""

    library: str
    """As it was given to ``--against``."""
    variant: str
    """Which way of running it."""
    of: str
    """The engine of the same report whose network this is."""
    settings: dict[str, str]
    """Version, threads, and what else was set or matters, in words."""
    timed: str | None
    """What a sample of its latency is; None: as for ours, one image from memory to memory."""
    psnr_to_ours_db: float | None
    """PSNR of RGB between its 8-bit output and that of ``of``, over all images compared; None when they are equal."""
    largest_difference: int
    """Between 8-bit samples of the two outputs, 0 to 255."""
    stability: Stability | None = None
    """Whether its latency can be trusted; None in reports of older versions."""

"""What a bound on latency came to, timed on the machine of the latency table: a sum of layers is only an estimate."""

from typing import TYPE_CHECKING

from drc_deploy.widths import WidthsFile

if TYPE_CHECKING:
    from drc_deploy.latency_table import LatencyTable


def timed_here(found: WidthsFile, table: "LatencyTable") -> dict[str, float] | None:
    """Time the networks before and after, in milliseconds; None on another machine than the table's."""
    from drc_deploy.models.network import ModelSpec
    from drc_deploy.train.search.layer_timing import this_device, time_networks

    if table.device != this_device():
        return None
    specs = [ModelSpec(found.model, found.scale, widths) for widths in (None, found.widths)]
    return dict(zip(("unpruned", "reached"), time_networks(specs, table.height, table.width), strict=True))


def told_times(timed: dict[str, float] | None, table: "LatencyTable") -> str:
    """Say in one line what ``timed_here`` gave."""
    if timed is None:
        return f"Not timed: the table was measured on another machine ({table.device})."
    share = 100 * (1 - timed["reached"] / timed["unpruned"])
    return f"Timed now: {timed['reached']:.2f} ms, unpruned {timed['unpruned']:.2f} ms ({share:.1f} % less)"

"""What a service reports of itself to Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from drc_deploy.runtime.memory.host import resident_bytes
from drc_deploy.runtime.service.work import STAGES, Watch

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Measures:
    """Counters and gauges, in a registry of their own.

    Attributes:
        under_way: Requests that were taken and have no answer yet.
        waiting: Those among them that are not computed yet.
    """

    def __init__(self) -> None:
        """Begin at zero."""
        self._registry = own = CollectorRegistry()
        self._requests = Counter("drc_deploy_requests", "Requests by answer.", ["status"], registry=own)
        self._latency = Histogram("drc_deploy_seconds", "Seconds by stage.", ["stage"], registry=own, buckets=_SECONDS)
        self._tiles = Counter("drc_deploy_tiles", "Tiles that were computed for finished requests.", registry=own)
        self.under_way = Gauge("drc_deploy_requests_under_way", "Requests without an answer yet.", registry=own)
        self.waiting = Gauge("drc_deploy_requests_waiting", "Requests that are not computed yet.", registry=own)
        memory = Gauge("drc_deploy_resident_bytes", "Memory of the process.", registry=own)
        memory.set_function(lambda: resident_bytes() or 0)
        for stage in STAGES:
            self._latency.labels(stage)

    def answered(self, status: int) -> None:
        """Count an answer."""
        self._requests.labels(str(status)).inc()

    def finished(self, watch: Watch) -> None:
        """Count the stages and tiles of a request that has its result."""
        for stage, seconds in watch.seconds.items():
            self._latency.labels(stage).observe(seconds)
        self._tiles.inc(watch.done)

    def text(self) -> bytes:
        """Return all of it in the format of Prometheus."""
        return generate_latest(self._registry)

"""What computes a network with several named inputs and outputs: ONNX Runtime, TensorRT or torch."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Protocol

from drc_deploy.runtime.backends.contract import Pixels


class GraphRunner(Protocol):
    """A loaded network; ``OnnxSessions``, ``PlanRunner`` and the ``ExactRunner`` of torch."""

    device: str
    """What really computes, as the library tells."""
    workers: int
    """Calls of a stream that are computed at a time; may be lowered."""

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Pixels]) -> list[Pixels]:
        """Compute ``outputs`` of the arrays that the inputs are fed with, by name.

        Raises:
            ArtefactError: the library refuses.
        """

    def stream(
        self, outputs: Sequence[str], many: Iterable[Mapping[str, Pixels]]
    ) -> Generator[list[Pixels], None, None]:
        """Compute ``outputs`` for many feeds, in order; some feeds are taken ahead."""

    def close(self) -> None:
        """Free the memory."""

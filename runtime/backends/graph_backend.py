"""Networks with several named inputs and outputs: what runs them in ONNX Runtime, TensorRT or torch, as a backend."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from copy import copy
from typing import Protocol, TypeVar

from drc_deploy.engine_info import INPUT_NAME, KERNEL_NAME, OUTPUT_NAME, EngineInfo
from drc_deploy.runtime.backends.contract import Backend, GpuMemory, Pixels, check_batch, check_result

Feeds = Mapping[str, Pixels]
"""Input name -> array."""
AnyGraph = TypeVar("AnyGraph", bound="GraphBackend")


class GraphRunner(Protocol):
    """A loaded network: a file in ONNX Runtime, a plan in TensorRT, or a checkpoint in torch."""

    device: str
    """The device that computes, as the library reports it."""
    workers: int
    """Calls of a stream that are computed at a time; may be lowered."""
    memory: GpuMemory | None = None
    """See ``Backend.gpu_memory``."""

    def run(self, outputs: Sequence[str], feeds: Feeds) -> list[Pixels]:
        """Compute ``outputs`` of the arrays that the inputs are fed with, by name.

        Raises:
            ArtefactError: the library refuses.
        """

    def stream(self, outputs: Sequence[str], many: Iterable[Feeds]) -> Generator[list[Pixels], None, None]:
        """Compute ``outputs`` for many feeds, in order; some feeds are taken ahead.

        Raises:
            ArtefactError: the library refuses.
        """

    def give_back(self) -> None:
        """See ``Backend.give_back``."""
        return None

    def close(self) -> None:
        """Free the memory; torch does so by itself when the runner is gone."""
        return None


class GraphBackend(Backend):
    """A backend over a runner, whose inputs are those that ``_feeds`` makes of a batch."""

    def __init__(self, runner: GraphRunner, info: EngineInfo, estimator: GraphRunner | None = None) -> None:
        """Wrap ``runner``, which is closed together with this object; ``info`` describes its network.

        ``estimator`` is what finds the kernels that ``runner`` takes, closed likewise; None: the runner finds them.
        """
        self._runner, self._info, self._estimator = runner, info, estimator
        self._kernel: Pixels | None = None
        self.takes_kernels, self.sessions = estimator is not None, len(self._runners)

    @property
    def info(self) -> EngineInfo:
        """Description of the network, from its file."""
        return self._info

    @property
    def device(self) -> str:
        """The device of the runner."""
        return self._runner.device

    @property
    def gpu_memory(self) -> GpuMemory | None:
        """See ``Backend.gpu_memory``."""
        return self._runner.memory

    @property
    def workers(self) -> int:
        """Tiles computed at a time."""
        return self._runner.workers

    def use_workers(self, count: int) -> None:
        """See ``Backend.use_workers``."""
        for runner in self._runners:
            runner.workers = count

    def run(self, batch: Pixels) -> Pixels:
        """Upscale a batch; see ``Backend.run``."""
        result = self._runner.run([OUTPUT_NAME], self._feeds(batch))[0]
        check_result(batch, result, self._info.scale)
        return result

    def stream(self, batches: Iterable[Pixels]) -> Iterator[Pixels]:
        """Upscale many batches; see ``Backend.stream``."""
        return only_output(self._runner, OUTPUT_NAME, map(self._feeds, batches))

    def with_kernel(self: AnyGraph, kernel: Pixels) -> AnyGraph:
        """See ``Backend.with_kernel``."""
        other = copy(self)
        other._kernel = kernel[None, None]
        return other

    def estimated_kernels(self, batches: Iterable[Pixels]) -> Iterator[Pixels]:
        """See ``Backend.estimated_kernels``."""
        feeds = map(self._checked, batches)
        return (kernels[:, 0] for kernels in only_output(self._estimator or self._runner, KERNEL_NAME, feeds))

    def _checked(self, batch: Pixels) -> Feeds:
        check_batch(batch, self._info)
        return {INPUT_NAME: batch}

    def _feeds(self, batch: Pixels) -> Feeds:
        feeds, kernel = self._checked(batch), self._kernel
        if kernel is None and self._estimator:
            kernel = self._estimator.run([KERNEL_NAME], feeds)[0].mean(axis=0, keepdims=True)
        return feeds if kernel is None else {**feeds, KERNEL_NAME: kernel}

    def give_back(self) -> None:
        """See ``Backend.give_back``."""
        for runner in self._runners:
            runner.give_back()

    def close(self) -> None:
        """Free the network."""
        for runner in self._runners:
            runner.close()

    @property
    def _runners(self) -> list[GraphRunner]:
        return [self._runner, self._estimator] if self._estimator else [self._runner]


def only_output(runner: GraphRunner, name: str, feeds: Iterable[Feeds]) -> Iterator[Pixels]:
    """Yield one output for each of many feeds; what was taken ahead is not computed for nobody."""
    with closing(runner.stream([name], feeds)) as results:
        yield from (result for (result,) in results)

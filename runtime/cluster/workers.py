"""The workers of a cluster: as many as its machines hold, each asked one thing at a time, and begun again by Ray."""

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from drc_deploy.errors import DrcDeployError, UsageError
from drc_deploy.runtime.cluster.connection import connected
from drc_deploy.runtime.cluster.tasks import Asked, Task
from drc_deploy.runtime.cluster.worker import Opened, Recipe, Reply, Worker

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

_log = logging.getLogger(__name__)

_SHARE_CORES = 4
"""Of one worker, where nobody says otherwise: more threads than that help one image little."""
MOST_ENDS = 3
"""How often a worker may end over the same thing."""
_NO_END = -1
"""Of retries, as Ray writes it."""
PATIENCE_S = 60.0
"""How long no worker may answer before a user hears why."""


@dataclass(frozen=True, slots=True)
class Shares:
    """How machines are shared out among workers."""

    needs: Mapping[str, int]
    """What Ray keeps free for each worker."""
    count: int
    most: int
    """Workers on one machine."""


def share_out(machines: Sequence[Mapping[str, float]], threads: int | None) -> Shares:
    """Return one worker for each GPU; where no machine has one, a worker for each share of cores.

    Args:
        machines: what Ray says that each has, such as ``{"CPU": 8.0, "GPU": 1.0}``.
        threads: cores of a share; None: four, or as many as the largest machine has.

    Raises:
        UsageError: no machine has as many cores.
    """
    gpus = [int(machine.get("GPU", 0)) for machine in machines]
    if any(gpus):
        return Shares({"num_gpus": 1, "num_cpus": 0}, sum(gpus), max(gpus))
    cores = [int(machine.get("CPU", 0)) for machine in machines]
    largest = max(cores, default=0)
    threads = threads or max(min(_SHARE_CORES, largest), 1)
    counts = [each // threads for each in cores]
    if not any(counts):
        raise UsageError(f"no machine of the cluster has {threads} cores for a worker.", "Give fewer --threads.")
    return Shares({"num_cpus": threads}, sum(counts), max(counts))


def machines(nodes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, float]]:
    """Return what each machine has, out of what Ray knows of them."""
    return [node["Resources"] for node in nodes if node["Alive"]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a worker has answered."""

    worker: "ActorHandle[Worker]"
    task: Task | None
    """What it was given; None where it has just opened its network."""
    reply: Reply | None = None
    """None: it has not done a task."""
    ended: bool = False
    """Whether it was killed, crashed, or lost its machine: what it was given is not done."""
    begun: bool = False
    """Whether it had begun with what it was given when it ended."""


class _Asked(NamedTuple):
    """What a worker is asked."""

    worker: "ActorHandle[Worker]"
    task: Task | None
    """None: to open its network."""
    alive: "ObjectRef[Opened] | None"
    """What it answers just before it begins with the task."""


@contextmanager
def workers_at(address: str, recipe: Recipe, threads: int | None) -> "Iterator[Workers]":
    """Start workers on all machines of a cluster; they end with the block.

    Args:
        address: as for ``connected``, which says what else can go wrong.
        recipe: what each of them is.
        threads: as for ``share_out``.

    Raises:
        UsageError: no machine has as many cores.
        DrcDeployError: a worker cannot open the network.
    """
    with connected(address):
        workers = Workers(recipe, threads)
        try:
            yield workers
        finally:
            workers.end()


class Workers:
    """Workers that upscale files.

    Attributes:
        count: How many there are.
        first: What the network is, as the first worker has opened it.
    """

    def __init__(self, recipe: Recipe, threads: int | None) -> None:
        """Start them, and wait until one of them is ready."""
        import ray

        self._ray = ray
        shares = share_out(machines(ray.nodes()), threads)  # type: ignore[no-untyped-call]
        threads = shares.needs["num_cpus"] or threads
        recipe = dataclasses.replace(recipe, how={**recipe.how, "threads": threads}, sharers=shares.most)
        actor: Any = ray.remote(Worker).options(max_restarts=-1, **shares.needs)  # of a type that is not published
        self._workers: list[ActorHandle[Worker]] = [actor.remote(recipe) for _ in range(shares.count)]
        self._asked: dict[ObjectRef[Any], _Asked] = {}
        self._early: list[Answer] = []
        self._silent_s = 0.0
        for worker in self._workers:
            self._open(worker, MOST_ENDS - 1)
        self.count, self.first = shares.count, self._wait_for_first()

    def share(self, asked: Asked) -> "ObjectRef[Asked]":
        """Return ``asked`` as ``give`` takes it: sent to each worker once."""
        return self._ray.put(asked)

    def give(
        self, worker: "ActorHandle[Worker]", asked: "ObjectRef[Asked]", task: Task, *, again: bool, replace: bool
    ) -> None:
        """Have a worker that has answered do a task; see ``Worker.run``."""
        alive = worker.ready.remote()  # a worker takes one call after the other, so that this one is answered first
        self._asked[worker.run.remote(asked, task, again=again, replace=replace)] = _Asked(worker, task, alive)

    def answers(self, most_s: float = PATIENCE_S) -> Iterator[Answer]:
        """Wait for answers, and yield those that are there; a worker that has ended opens its network again.

        Args:
            most_s: how long there may be none.

        Raises:
            DrcDeployError: a worker cannot open the network, or all have ended for good.
            Exception: whatever a worker has raised.
        """
        if self._early:
            yield self._early.pop()
            return
        if not self._asked:
            hint = "Try it on one machine, without --ray. Is drc-deploy installed on all of them?"
            raise DrcDeployError("all workers have ended while they opened the network.", hint)
        done, _ = self._ray.wait([*self._asked], timeout=most_s)
        self._silent_s = 0.0 if done else self._silent_s + most_s
        if self._silent_s >= PATIENCE_S and not any(asked.task for asked in self._asked.values()):
            _log.warning("All workers wait for a machine with room for them, or end while they open the network.")
            self._silent_s = 0.0
        for reference in done:
            yield self._heard(reference)

    def _heard(self, reference: "ObjectRef[Any]") -> Answer:
        from ray.exceptions import RayError, RayTaskError

        worker, task, alive = self._asked.pop(reference)
        try:
            answer = self._ray.get(reference)
        except RayTaskError as error:
            raise error.cause from error
        except RayError:
            if task:  # or it has ended as often as it may while it opened its network for the first time
                # Each attempt counts that comes before Ray has begun the worker again, so that any number is too few.
                self._open(worker, _NO_END)
            return Answer(worker, task, ended=True, begun=alive is not None and self._is_answered(alive))
        if isinstance(answer, Opened):
            self.first = answer
            return Answer(worker, task)
        return Answer(worker, task, answer)

    def _is_answered(self, reference: "ObjectRef[Any]") -> bool:
        from ray.exceptions import RayError

        try:
            self._ray.get(reference)
        except RayError:
            return False
        return True

    def _open(self, worker: "ActorHandle[Worker]", retries: int) -> None:
        self._asked[worker.ready.options(max_task_retries=retries).remote()] = _Asked(worker, None, None)

    def _wait_for_first(self) -> Opened:
        while True:
            for answer in self.answers():
                if not answer.ended:
                    self._early.append(answer)
            if self._early:
                return self.first

    def end(self) -> None:
        """End all workers, whatever they are at."""
        for worker in self._workers:
            self._ray.kill(worker)

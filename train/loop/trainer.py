"""A network and its duals in training: one update at a time, on one or many devices."""

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from drc_deploy.checkpoint import to_half
from drc_deploy.errors import TrainingError
from drc_deploy.models.blind import BlindNetwork
from drc_deploy.models.network import SRNetwork
from drc_deploy.train.device import compilation_checked, lay_out_moments, place, place_images, training_device
from drc_deploy.train.loop import distributed
from drc_deploy.train.loop.branches import Branches
from drc_deploy.train.loop.distillation import LastFeatures, Teacher
from drc_deploy.train.loop.ema import WeightAverage
from drc_deploy.train.loop.graph_replay import GraphReplay, recorded
from drc_deploy.train.loop.kernel_loss import LastKernel
from drc_deploy.train.loop.losses import dual_regression_losses, map_back
from drc_deploy.train.loop.precision import autocast, gradient_scaler, keep_images_float32, prepare_device
from drc_deploy.train.loop.run_options import MANY_STEPS, TrainingPrecision, TrainOptions
from drc_deploy.train.loop.stand_in import StandIn

DIVERGED = 1e6
"""A loss that no run recovers from: a network that knows nothing has one of a few hundred."""
DIVERGED_HINT = "Lower --learning-rate; with --force, training goes on from the last saved state."

HALF_HINT = "Leave out --half; with --force, training goes on from the last saved state."


class DualRegression(nn.Module):
    """Network, duals and loss as one module, so that compiling and gradient exchange see the whole step."""

    def __init__(
        self,
        network: SRNetwork,
        duals: nn.ModuleList,
        *,
        hr_cycle: bool,
        precision: TrainingPrecision,
        teacher: Teacher | None = None,
        branches: Branches | None = None,
    ) -> None:
        super().__init__()
        self.network, self.duals, self.teacher, self.branches = network, duals, teacher, branches
        self._hr_cycle, self._precision = hr_cycle, precision
        self._features = LastFeatures(network) if teacher else None
        self._kernel = LastKernel(network)

    def forward(self, images: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the parts of the loss (see ``Trainer``) for images of every scale, coarse to fine."""
        with autocast(self._precision):
            outputs = self._run(images[0])
        features = self._features.take() if self._features else None
        losses = dual_regression_losses(outputs, images, self.duals, self._kernel.take())
        dual = losses.dual + self._second_cycle(images) if self._hr_cycle else losses.dual
        parts = [losses.primal, dual]
        if losses.kernel is not None:
            parts.append(losses.kernel)
        if self.teacher is not None and features is not None:
            parts.append(self.teacher(features, images[0]))
        return tuple(parts)

    def _run(self, lr: Tensor) -> list[Tensor]:
        outputs: list[Tensor] = self.branches.run(self.network, lr) if self.branches else self.network(lr)
        return outputs

    def _second_cycle(self, images: Sequence[Tensor]) -> Tensor:
        lr = map_back(self.duals, images[-1])
        with autocast(self._precision):
            cycled = self._run(lr)[-1]
        return F.l1_loss(cycled, images[-1])


class Trainer:
    """A network and its duals in training, whose state can be saved and restored exactly.

    Raises:
        UsageError: the batch cannot be divided among the processes and their parts, or nothing can have branches.
        MissingDependencyError: the device does not compute in the precision asked for.
    """

    def __init__(
        self, network: SRNetwork, duals: nn.ModuleList, options: TrainOptions, teacher: Teacher | None = None
    ) -> None:
        prepare_device(options.precision)
        distributed.check_divisible(options.batch // options.accumulate)
        self.network = place(network).train()
        self.duals = place(duals).train() if options.dual != "none" else nn.ModuleList()
        self.branches = Branches(self.network) if options.branches else None
        self.options = options
        self._shares = {"primal": 1.0, "dual": options.dual_weight if self.duals else 0.0}
        """The parts of the loss, and what each counts."""
        if isinstance(network, BlindNetwork):
            self._shares["kernel"] = 1.0
        if teacher:
            self._shares["distillation"] = teacher.weight
        self.step = 0
        self.seconds = 0.0
        """Time spent in updates and in waiting for their data, over all sessions of the run; the loop counts it."""
        self._pending: list[Tensor] = []
        self._history: deque[list[float]] = deque(maxlen=max(1, (options.steps or MANY_STEPS) // 100))
        # Adam works per parameter: one optimiser is the same as the authors' separate ones, and resumes as one.
        fused = training_device().type == "cuda"  # elsewhere float16 would make the host wait in every update
        self.optimizer = torch.optim.Adam(self._parameters(), lr=options.learning_rate, fused=fused)
        self._scaler = gradient_scaler(options.precision)
        self._average = WeightAverage(self._parameters(), options.ema) if options.ema else None
        self._averaged, self._rounded = StandIn(), StandIn()
        self._exchange: DistributedDataParallel | None = None
        self._module = self._step_module(teacher)
        self.replays = fused and not options.compile and options.accumulate == 1 and self._exchange is None
        """Whether the pass is recorded as a CUDA graph, in the next update, if it can be; may be changed until then."""
        self._replay: GraphReplay | None = None

    def _step_module(self, teacher: Teacher | None) -> nn.Module:
        options = self.options
        if options.precision != "fp32":
            keep_images_float32(self.network)
        hr_cycle = options.dual == "hr-cycle"
        if teacher:
            teacher.prepare(options.precision)
        module: nn.Module = DualRegression(
            self.network,
            self.duals,
            hr_cycle=hr_cycle,
            precision=options.precision,
            teacher=teacher,
            branches=self.branches,
        )
        if distributed.world_size() > 1:
            unused = self.network.spec.foreign is not None  # such networks may have parameters that nothing reads
            module = self._exchange = DistributedDataParallel(module, find_unused_parameters=unused)
        return torch.compile(module) if options.compile else module  # type: ignore[return-value]

    def _parameters(self) -> list[nn.Parameter]:
        modules = [self.network, self.duals, *([self.branches] if self.branches else [])]
        return [p for module in modules for p in module.parameters() if p.requires_grad]

    def update(self, images: Sequence[Tensor]) -> None:
        """Make one update from this process's share of a batch (see ``PatchSampler.sample``)."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate_at(self.step, self.seconds)
        losses = self._replayed(images) if self.replays else self._accumulated(images)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.step += 1
        if self._average:
            self._average.update(self.step)
        self._pending.append(losses)

    def _replayed(self, images: Sequence[Tensor]) -> Tensor:
        """Compute gradients and losses of a batch as one CUDA graph."""
        if self._replay is None:
            # A recording must not copy from the host: the images that it starts from are on the GPU.
            start = place_images(images)
            self._replay = recorded(lambda batch: self._backward(batch, last=True), start, self._parameters())
        if self._replay is None:
            self.replays = False
            return self._accumulated(images)
        return self._replay(images)

    def _accumulated(self, images: Sequence[Tensor]) -> Tensor:
        """Compute gradients and losses of a batch, part by part."""
        self.optimizer.zero_grad(set_to_none=True)
        parts = self.options.accumulate
        losses = [self._backward(part, last=i + 1 == parts) for i, part in enumerate(_split(images, parts))]
        return torch.stack(losses).mean(dim=0)

    def _backward(self, images: Sequence[Tensor], *, last: bool) -> Tensor:
        """Add the gradients of one part of the batch; return the parts of its loss."""
        # Gradients are exchanged once per update, with the last part.
        with self._exchange.no_sync() if self._exchange and not last else contextlib.nullcontext():
            losses = self._losses(images)
            loss = self._total(losses) / self.options.accumulate
            self._scaler.scale(loss).backward()
        return torch.stack([part.detach() for part in losses])

    def _losses(self, images: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the parts of the loss."""
        with compilation_checked() if self.options.compile else contextlib.nullcontext():
            losses: tuple[Tensor, ...] = self._module(place_images(images))
        return losses

    def take_losses(self) -> dict[str, float] | None:
        """Return the mean losses of the updates since the last call, over all processes; None when there were none.

        This is where the host waits for the device, so it is not called after every update.

        Raises:
            TrainingError: they are NaN, or so large that the run has diverged.
        """
        if not self._pending:
            return None
        values = distributed.mean_over_processes(torch.stack(self._pending)).cpu()
        self._pending = []
        self._history.extend(values.tolist())
        parts = values.mean(dim=0).tolist()
        loss = self._total(parts)
        if not loss < DIVERGED:  # which NaN is not either
            raise TrainingError(f"the loss became {loss:.4g} by step {self.step}.", DIVERGED_HINT)
        return {"loss": loss, **dict(zip(self._shares, parts, strict=True))}

    def _total(self, parts: Sequence[Any]) -> Any:
        """Add up the parts of the loss, numbers or tensors."""
        return sum(share * part for share, part in zip(self._shares.values(), parts, strict=True))

    @property
    def final_loss(self) -> float:
        """Mean loss over the last hundredth of the steps; ``take_losses`` must have been called.

        Of a run of minutes it is at most the last thousand.
        """
        last = list(self._history)[-max(1, self.step // 100) :]
        return float(sum(map(self._total, last))) / len(last)

    @property
    def learning_rate(self) -> float:
        """The learning rate of the latest update."""
        return float(self.optimizer.param_groups[0]["lr"])

    @contextlib.contextmanager
    def final_weights(self) -> Iterator[None]:
        """Let network and duals hold the weights that are validated and kept while the block runs."""
        with contextlib.ExitStack() as stack:
            if self._average:
                stack.enter_context(self._averaged.applied(self._parameters(), self._average.average))
            if self.branches:
                self.branches.write_into(self.network)
            if self.options.half:
                weights = self._weights()
                rounded = to_half(weights, f"the weights of step {self.step}", HALF_HINT)
                stack.enter_context(self._rounded.applied(list(weights.values()), list(rounded.values())))
            yield

    def _weights(self) -> dict[str, Tensor]:
        """Return all that a checkpoint holds, by its name; these are the tensors themselves."""
        modules = {"network": self.network, "duals": self.duals}
        return {f"{kind}.{name}": tensor for kind, m in modules.items() for name, tensor in m.state_dict().items()}

    def check_finite(self) -> None:
        """Find out whether the weights are numbers; a finite loss may still have had gradients that are not.

        Raises:
            TrainingError: some are NaN or infinite.
        """
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self._parameters()):
            raise TrainingError(f"the weights became NaN or infinite by step {self.step}.", DIVERGED_HINT)

    def state(self) -> dict[str, Any]:
        """Return all that a later run needs to go on exactly here."""
        self._rounded.put_back()
        self._averaged.put_back()
        return {
            "step": self.step,
            "seconds": self.seconds,
            "history": list(self._history),
            "pending": self._pending,
            "network": self.network.state_dict(),
            "duals": self.duals.state_dict(),
            "branches": self.branches.state_dict() if self.branches else {},
            "average": self._average.average if self._average else [],
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "random": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        self.network.load_state_dict(state["network"])
        self.duals.load_state_dict(state["duals"])
        if self.branches:
            self.branches.load_state_dict(state.get("branches", {}))  # older states have none
        if self._average:
            # Without one in the state, when EMA is new to the run, the average starts at the weights.
            self._average.restore(state["average"] or self._parameters())
        self.optimizer.load_state_dict(state["optimizer"])
        lay_out_moments(self.optimizer)
        if state["scaler"]:  # empty where the precision was another
            self._scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        self.step, self.seconds = state["step"], state["seconds"]
        self._history.extend(state["history"])
        self._pending = [losses.to(training_device()) for losses in state["pending"]]


def _split(images: Sequence[Tensor], parts: int) -> Iterator[list[Tensor]]:
    """Divide a batch into equal parts, each with images of every scale."""
    return (list(part) for part in zip(*(scale.chunk(parts) for scale in images), strict=True))

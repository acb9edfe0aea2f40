"""The whole method in one go: search widths, prune to them, fine-tune. One manifest records what each stage made."""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from drc_deploy import __version__
from drc_deploy.checkpoint import Parent, load_checkpoint
from drc_deploy.errors import UsageError
from drc_deploy.files import new_folder
from drc_deploy.latency_table import LatencyTable, fingerprint
from drc_deploy.only_one import only_one
from drc_deploy.printing import say
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.loop.benchmark_psnr import Benchmark
from drc_deploy.train.loop.distillation import load_teacher
from drc_deploy.train.loop.loop import Supervision
from drc_deploy.train.loop.run_options import DualVariant, TargetImages, TrainOptions
from drc_deploy.train.loop.training import start_from_checkpoint, train
from drc_deploy.train.manifest import Manifest, Stage
from drc_deploy.train.pruning.prune import prune_file
from drc_deploy.train.pruning.prune_options import PruneOptions
from drc_deploy.train.search.search_file import SearchInputs, most_at_once, search_files
from drc_deploy.train.search.search_options import SearchOptions, ratio_tag
from drc_deploy.widths import WIDTHS_SUFFIX, read_widths


def compressed_name(name: str, ratio: float) -> str:
    """Return the name of a network pruned by ``ratio``: ``drn_s`` and 0.3 give ``drn_s_r30``."""
    return f"{name}_{ratio_tag(ratio)}"


class StagePaths(NamedTuple):
    """What the stages before the last one make."""

    widths: Path
    pruned: Path


def stage_paths(output: Path) -> StagePaths:
    """Return where the stages on the way to ``output`` leave their results."""
    stages = output.parent / f"{output.stem}.stages"
    return StagePaths(stages / f"{output.stem}{WIDTHS_SUFFIX}", stages / f"{output.stem}_pruned.safetensors")


@dataclass(frozen=True, slots=True)
class CompressOptions:
    """The three stages' options; their data is the same."""

    search: SearchOptions
    prune: PruneOptions
    finetune: TrainOptions

    def of_network(self, targets: TargetImages, dual: DualVariant) -> "CompressOptions":
        """Return the options for a network with this kind of duals, compared with these images in all stages."""
        if self.finetune.dual == "none":
            dual = "none"
        return CompressOptions(
            dataclasses.replace(self.search, target_images=targets),
            dataclasses.replace(self.prune, target_images=targets),
            dataclasses.replace(self.finetune, dual=dual),
        )


Jobs = Mapping[Path, CompressOptions]
"""What to make, by the file of the result; the options differ in the ratio only."""


@dataclass(frozen=True, slots=True)
class CompressInputs:
    """All that a compression needs, apart from its options."""

    parent: Parent
    photographs: Photographs
    benchmarks: Sequence[Benchmark] = ()
    """Measured before and after; they decide nothing."""
    latency: LatencyTable | None = None
    """For a bound on latency."""
    teacher: Parent | None = None
    """A checkpoint whose features the fine-tuning follows."""


def compress(inputs: CompressInputs, jobs: Jobs, *, restart: bool = False) -> list[dict[str, Any]]:
    """Search, prune and fine-tune a checkpoint for several bounds, and write the results.

    On a GPU all are searched at once, before the first is pruned. What a stage made stays in ``OUTPUT.stages/``. A
    stage whose result is there, made from the same inputs with the same options, is not run again; an interrupted one
    goes on where it was.

    Returns:
        The manifests, which are also written to ``OUTPUT.manifest.json``.

    Raises:
        UsageError: a bound that no widths meet or that needs no cut, or a teacher that does not fit.
        TrainingError: too little data, or the loss became NaN.
        OutputError: another process is making a result, or it cannot be written.
    """
    check_teacher(inputs.parent, inputs.teacher)
    with ExitStack() as stack:
        for output in jobs:
            stages = stage_paths(output).pruned.parent
            stack.enter_context(new_folder(stages))
            stack.enter_context(only_one(stages))
        manifests = {output: _manifest(inputs, output, restart=restart) for output in jobs}
        for output in _searched(inputs, jobs, manifests, restart=restart):
            _prune_and_finetune(inputs, jobs[output], output, manifests[output], restart=restart)
        return [manifest.content for manifest in manifests.values()]


def has_begun(inputs: CompressInputs, options: CompressOptions, output: Path) -> bool:
    """Return whether ``compress`` would go on from what it has made with the same inputs and options, or keep it."""
    return _manifest(inputs, output, restart=False).has_begun(_stages(options, output))


def _manifest(inputs: CompressInputs, output: Path, *, restart: bool) -> Manifest:
    return Manifest(output.with_suffix(".manifest.json"), inputs=_identity(inputs), restart=restart)


def _stages(options: CompressOptions, output: Path) -> tuple[Stage, Stage, Stage]:
    """Return search, pruning and fine-tuning as the manifest has them."""
    widths, pruned = stage_paths(output)
    finetune = dataclasses.asdict(options.finetune) | {"target_images": options.prune.target_images}
    return (
        (dataclasses.asdict(options.search), widths),
        (dataclasses.asdict(options.prune), pruned),
        (finetune, output),
    )


def check_teacher(parent: Parent, teacher: Parent | None) -> None:
    """Find out before the first stage whether the fine-tuning can follow a teacher.

    Raises:
        UsageError: it cannot.
    """
    if teacher is None:
        return
    if parent.info.foreign:
        raise UsageError(f"which features of a {parent.info.model} are the last is not known.", "Leave out --teacher.")
    load_teacher(teacher, scale=parent.info.scale)


def _searched(
    inputs: CompressInputs, jobs: Jobs, manifests: Mapping[Path, Manifest], *, restart: bool
) -> Iterator[Path]:
    """Find the widths of all results; yield each result that has its own, first those of earlier runs.

    Of widths that are found at once, each counts an equal share of the time.
    """
    searches = {output: _stages(options, output)[0] for output, options in jobs.items()}
    missing = {stage_paths(output).widths: output for output in jobs}
    for output in jobs:
        if manifests[output].is_done(*searches[output]):
            manifests[output].describe_parent(inputs.parent.checkpoint, inputs.benchmarks)
            manifests[output].keep()
            del missing[stage_paths(output).widths]
            yield output
    searched = SearchInputs(inputs.parent, inputs.photographs, inputs.latency)
    while missing:
        for output in list(missing.values())[: most_at_once(len(missing))]:
            say(f"{output.stem}: search", err=True)
        start = time.monotonic()
        found = search_files(
            searched, {widths: jobs[output].search for widths, output in missing.items()}, restart=restart
        )
        seconds = (time.monotonic() - start) / len(found)
        done = [missing.pop(widths) for widths in found]
        for output in done:
            manifests[output].describe_parent(inputs.parent.checkpoint, inputs.benchmarks)
            manifests[output].record("search", *searches[output], seconds)
        yield from done


def _prune_and_finetune(
    inputs: CompressInputs, options: CompressOptions, output: Path, manifest: Manifest, *, restart: bool
) -> None:
    widths_path, pruned_path = stage_paths(output)
    info = inputs.parent.info
    _, prune, finetune = _stages(options, output)
    widths = read_widths(widths_path, model=info.model, scale=info.scale)
    if widths == inputs.parent.checkpoint.build_network().widths:
        raise UsageError(
            "nothing needs to be cut: the search left every layer as wide as it is.",
            "Give a larger --ratio or a smaller --round-to.",
        )
    manifest.run(
        "prune",
        *prune,
        lambda: prune_file(inputs.parent, widths, inputs.photographs, options.prune, pruned_path, restart=restart),
    )
    pruned = Parent.read(pruned_path)
    follow = options.prune.target_images == "self"
    manifest.describe_result(pruned.checkpoint, inputs.benchmarks)
    manifest.run(
        "finetune",
        *finetune,
        lambda: _finetune(inputs, pruned, options.finetune, output, follow=follow, restart=restart),
    )
    manifest.describe_result(load_checkpoint(output), inputs.benchmarks)


def _identity(inputs: CompressInputs) -> dict[str, Any]:
    """Return all that decides the result, apart from the options."""
    return {
        "checkpoint": inputs.parent.sha256,
        "data": inputs.photographs.fingerprint,
        "LR images by": inputs.photographs.lr_made_by,
        "version": __version__,
        "latency": fingerprint(inputs.latency) if inputs.latency else None,
        "teacher": inputs.teacher.sha256 if inputs.teacher else None,
    }


def _finetune(
    inputs: CompressInputs, pruned: Parent, options: TrainOptions, output: Path, *, follow: bool, restart: bool
) -> None:
    start = start_from_checkpoint(pruned, options)
    if follow:
        start = dataclasses.replace(start, follows=inputs.parent)
    if inputs.teacher:
        start = dataclasses.replace(start, teacher=load_teacher(inputs.teacher, scale=start.network.scale))
    train(
        start,
        inputs.photographs,
        options,
        output,
        benchmarks=inputs.benchmarks,
        supervision=Supervision(restart=restart),
    )

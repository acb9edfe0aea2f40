"""The matrix: every engine file x precision x tile x batch x provider, as data, before anything is loaded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from drc_deploy.bench.report.records import Case, LeftOut
from drc_deploy.bench.run.inputs import EngineFile
from drc_deploy.bench.suite.halves import NO_HALVES, Halves
from drc_deploy.checkpoint_info import read_checkpoint_info
from drc_deploy.engine_info import EngineInfo, read_onnx_info, read_sidecar
from drc_deploy.files import sha256_of

TILES_PX = (64, 128, 256)
LARGEST_GROUP = 8
"""Cases that are loaded at a time: each is a process with a network of its own."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What must be known of a file to plan its cases."""

    file: EngineFile
    sha256: str
    network: str
    """SHA-256 of the checkpoint, which all files of a network share."""
    any_size: bool
    max_batch: int


@dataclass(frozen=True, slots=True)
class PlannedCase:
    """A case and the file that it runs."""

    file: EngineFile
    """Named as the case."""
    sha256: str
    case: Case


@dataclass(frozen=True, slots=True)
class Matrix:
    """The plan of a suite."""

    groups: tuple[tuple[PlannedCase, ...], ...]
    left_out: tuple[LeftOut, ...]


def read_facts(file: EngineFile) -> EngineFacts:
    """Read what a file says about itself.

    Raises:
        ArtefactError: it is damaged, or of another program.
    """
    path, sha256 = file.path, sha256_of(file.path)
    if path.suffix == ".safetensors":
        read_checkpoint_info(path)
        return EngineFacts(file, sha256, sha256, any_size=True, max_batch=1)
    info = _read_info(path)
    if info is None:  # a plan that lost its sidecar
        return EngineFacts(file, sha256, sha256, any_size=False, max_batch=1)
    return EngineFacts(file, sha256, info.checkpoint_sha256, info.tile is None, info.max_batch)


def _read_info(path: Path) -> EngineInfo | None:
    if path.suffix == ".plan":
        sidecar = read_sidecar(path)
        return sidecar.engine if sidecar else None
    return read_onnx_info(path)


def plan_matrix(
    files: Sequence[EngineFacts], size: tuple[int, int], *, cpu_too: bool, halves: Halves = NO_HALVES
) -> Matrix:
    """Plan all cases.

    Args:
        files: the engines.
        size: height and width of the image that latency is measured on.
        cpu_too: whether ONNX Runtime has another provider than its CPU provider, so that both are to be measured.
        halves: the half precisions of checkpoints, where there are any.
    """
    first: dict[str, EngineFacts] = {}
    left_out = [] if cpu_too else [LeftOut("providers", "ONNX Runtime has its CPU provider only here")]
    networks: dict[str, list[PlannedCase]] = {}
    for facts in files:
        same = first.setdefault(facts.sha256, facts)
        if same is not facts:
            left_out.append(LeftOut(facts.file.name, f"it is the same file as {same.file.name}"))
            continue
        if not facts.any_size:
            left_out.append(LeftOut(f"{facts.file.name}, tiles", "it takes one size only"))
        cases = (_named(facts, case) for case in _cases(facts, size, cpu_too, halves))
        networks.setdefault(facts.network, []).extend(cases)
    left_out += [*halves.left_out, *_tiles_left_out(size, halves)]
    return Matrix(tuple(group for cases in networks.values() for group in _groups(cases)), tuple(left_out))


def _tiles_left_out(size: tuple[int, int], halves: Halves) -> Iterator[LeftOut]:
    tiles = [side for side in TILES_PX if side >= max(size)]
    if tiles:
        reason = f"the input of {size[1]}x{size[0]} is no larger"
        yield LeftOut(f"tiles of {' and '.join(map(str, tiles))}", reason)
    if halves.precisions and len(tiles) < len(TILES_PX):
        reason = "the fp32 of the same checkpoint shows what they cost"
        yield LeftOut(f"tiles of checkpoints in {' and '.join(halves.precisions)}", reason)


def _cases(facts: EngineFacts, size: tuple[int, int], cpu_too: bool, halves: Halves) -> Iterator[Case]:
    """Return the cases of one file, first the one that `upscale` would take."""
    tiles = [side for side in TILES_PX if side < max(size)] if facts.any_size else []
    plain = Case("", "default", None, None, None)
    yield plain
    if facts.file.path.suffix == ".onnx" and cpu_too:
        yield replace(plain, backend="cpu")
    for tile in tiles:
        yield replace(plain, tile=tile)
        if facts.max_batch > 1:
            yield replace(plain, tile=tile, batch=facts.max_batch)
    if facts.file.path.suffix == ".safetensors":
        # Without tiles: what their borders add is the same share in any precision, and every case more makes it less
        # likely that all ways of running a network fit into one group, where they take turns.
        for precision in halves.precisions:
            yield replace(plain, precision=precision)


def _named(facts: EngineFacts, case: Case) -> PlannedCase:
    parts = [facts.file.name]
    parts += [case.precision] if case.precision else []
    parts += [f"tiles of {case.tile}"] if case.tile else []
    parts += [f"{case.batch} a call"] if case.batch else []
    parts += ["CPU provider"] if case.backend == "cpu" else []
    return PlannedCase(EngineFile(", ".join(parts), facts.file.path), facts.sha256, case)


def _groups(cases: Sequence[PlannedCase]) -> Iterator[tuple[PlannedCase, ...]]:
    """Let the cases of one network take turns, as many as may be loaded at a time."""
    ordered = sorted(cases, key=lambda planned: (planned.case.tile or 0, planned.case.batch or 0))
    name = f"the network of {ordered[0].file.name}"
    for start in range(0, len(ordered), LARGEST_GROUP):
        part = f", part {start // LARGEST_GROUP + 1}" if len(ordered) > LARGEST_GROUP else ""
        cases = ordered[start : start + LARGEST_GROUP]
        yield tuple(replace(planned, case=replace(planned.case, group=name + part)) for planned in cases)


def plan_text(matrix: Matrix) -> str:
    """Return the plan in lines."""
    count = sum(map(len, matrix.groups))
    lines = [f"{count} cases in {len(matrix.groups)} groups; the cases of a group take turns:"]
    for group in matrix.groups:
        lines.append(f"  {group[0].case.group}")
        lines += [f"    {planned.file.name}" for planned in group]
    return "\n".join([*lines, *(f"left out: {item.what}: {item.why}" for item in matrix.left_out)])

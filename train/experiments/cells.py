"""Cells of a comparison on disk: each is measured once, a killed comparison goes on, a larger one adds to it."""

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from drc_deploy.checkpoint import load_checkpoint
from drc_deploy.errors import ArtefactError, UsageError
from drc_deploy.files import check_writable, write_text
from drc_deploy.only_one import only_one
from drc_deploy.progress import progress
from drc_deploy.records import read_json_object
from drc_deploy.train.device import place
from drc_deploy.train.loop.benchmark_psnr import Benchmark, measure_quality
from drc_deploy.train.manifest import FIGURES

REQUEST_FILE = "ablation.json"
OWN_FOLDERS = ("cells", "searches", "work")
"""What a comparison keeps in its folder, and clears when it begins anew."""
_FIGURES = {"seed": int, "seconds": dict, "params": int, "multiply_adds": int, **dict.fromkeys(FIGURES, dict)}
"""What every cell holds."""


class NamedCell(Protocol):
    """One thing to measure."""

    @property
    def name(self) -> str:
        """Name of the cell's file."""

    @property
    def group(self) -> str:
        """Name of what is made once for all cells that have it."""


CellT = TypeVar("CellT", bound=NamedCell)
Elsewhere = Callable[[Sequence[tuple[str, ...]]], Iterator[tuple[str, ...]]]
"""Makes groups of cells in other processes, by their names; yields each group that is there."""


class CellFolder:
    """A folder of cells that were measured with the same options on the same data.

    Raises:
        UsageError: the folder holds cells of something else, or files that are not of a comparison.
    """

    def __init__(self, path: Path, request: Mapping[str, Any], *, restart: bool) -> None:
        """Check the folder.

        Args:
            path: Need not exist.
            request: All that decides the figures of a cell of a given name, as JSON values.
            restart: Clear what an earlier comparison left.
        """
        self.path, self._request, self._restart = path, request, restart
        file = path / REQUEST_FILE
        if not file.exists():
            _check_free(path)
        elif restart or not _holds_files(path):
            pass  # nothing that other options have made
        elif read_json_object(file).get("request") != request:
            raise UsageError(
                f"{path} holds a comparison with other options or data.", "Give another -o, or add --restart."
            )

    def run(
        self,
        cells: Sequence[CellT],
        *,
        before: Callable[[], dict[str, Any]],
        measure: Callable[[CellT], dict[str, Any]],
        shape: Mapping[str, type],
        elsewhere: Elsewhere | None = None,
    ) -> list[dict[str, Any]]:
        """Measure the cells that are not there yet, and return all of them behind what ``before`` returns.

        Args:
            cells: In the order in which they are measured.
            before: Measures what all cells start from; called before anything is cleared.
            measure: Returns the content of a cell.
            shape: Fields of a cell and their types, besides those that every cell has.
            elsewhere: Measures cells in other processes, which call ``make``; None: they are measured here.

        Raises:
            ArtefactError: the file of a cell was edited.
            OutputError: another process is at work in the folder, or it cannot be written.
        """
        check_writable(self.path)
        with only_one(self.path):
            results = [before()]
            # After all that could fail, so that a request that fails clears nothing.
            for name in OWN_FOLDERS if self._restart else ():
                shutil.rmtree(self.path / name, ignore_errors=True)
            write_text(self.path / REQUEST_FILE, json.dumps({"request": self._request}, indent=2) + "\n")
            missing = [cell for cell in cells if not self._file(cell).exists()]
            with progress("Comparing", len(cells), done=len(cells) - len(missing)) as bar:
                for names in elsewhere(_groups(missing)) if elsewhere else ():
                    bar.advance(len(names), note=names[-1])
                for cell in cells:
                    if self.make(cell, measure):
                        bar.advance(note=cell.name)
                    results.append(_read_cell(self._file(cell), {**shape, **_FIGURES}))
            return results

    def make(self, cell: CellT, measure: Callable[[CellT], dict[str, Any]]) -> bool:
        """Measure a cell unless it is there; return whether it was not."""
        if self._file(cell).exists():
            return False
        write_text(self._file(cell), json.dumps(measure(cell), indent=2) + "\n")
        return True

    def work_file(self, name: str) -> Path:
        """Return where a checkpoint on the way to a cell is kept."""
        return self.path / "work" / f"{name}.safetensors"

    def _file(self, cell: NamedCell) -> Path:
        return self.path / "cells" / f"{cell.name}.json"


def _groups(cells: Sequence[NamedCell]) -> list[tuple[str, ...]]:
    """Return the names of cells that are to be made one after the other, large groups first."""
    groups: dict[str, list[str]] = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell.name)
    return sorted(map(tuple, groups.values()), key=len, reverse=True)


def updates_before(at: Collection[int], last: int) -> tuple[int, ...]:
    """Return the updates at which to measure a training of ``last`` ones on its way, in order.

    Raises:
        UsageError: one is beyond the last.
    """
    if beyond := [step for step in at if step > last]:
        raise UsageError(f"update {beyond[0]} is beyond the last, {last}.", "Train for longer, or ask for less --at.")
    return tuple(sorted({step for step in at if step < last}))


def quality_of(path: Path, benchmarks: Sequence[Benchmark]) -> dict[str, dict[str, float | None]]:
    """Return PSNR and SSIM of a checkpoint, as ``measure_quality`` does."""
    return measure_quality(place(load_checkpoint(path).build_network()), benchmarks)


def number_tag(value: float) -> str:
    """Name a number in file names, a different one for each: ``0_1`` for 0.1."""
    return repr(float(value)).replace(".", "_")


def _check_free(folder: Path) -> None:
    """Refuse a folder that no comparison has made, but that has folders of the names that one keeps and clears."""
    if taken := [name for name in OWN_FOLDERS if os.path.lexists(folder / name)]:
        raise UsageError(f"{folder / taken[0]} is there, but of no comparison.", "Give another -o.")


def _holds_files(folder: Path) -> bool:
    return any(path.is_file() for name in OWN_FOLDERS for path in (folder / name).rglob("*"))


def _read_cell(path: Path, shape: Mapping[str, type]) -> dict[str, Any]:
    cell = read_json_object(path)
    if wrong := [name for name, kind in shape.items() if not isinstance(cell.get(name), kind)]:
        raise ArtefactError(f"{path} has no usable {wrong[0]!r}.", "Delete the file: it is measured again then.")
    return cell

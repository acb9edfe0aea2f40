"""What ``compress`` has done, kept on disk after every stage."""

import json
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from drc_deploy.checkpoint import Checkpoint
from drc_deploy.files import sha256_of, write_text
from drc_deploy.input_files import read_text
from drc_deploy.models.network import multiply_adds
from drc_deploy.printing import say
from drc_deploy.train.device import place
from drc_deploy.train.loop.benchmark_psnr import Benchmark, fingerprints, measure_quality

Stage = tuple[dict[str, Any], Path]
"""Options of a stage, and the file that it makes."""


class Manifest:
    """``NAME.manifest.json``: the inputs, then options, result, time, size and PSNR of each stage."""

    def __init__(self, path: Path, *, inputs: dict[str, Any], restart: bool) -> None:
        self._path, self._name = path, path.name.removesuffix(".manifest.json")
        previous = {} if restart else _read_json(path)
        # Stages are taken over only as long as everything before them is the same.
        same = previous.get("inputs") == inputs
        self._previous = previous.get("stages", []) if same else []
        self.content: dict[str, Any] = {
            "inputs": inputs,
            "versions": {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()},
            "before": previous.get("before", {}) if same else {},
            "stages": [],
        }

    def describe_parent(self, parent: Checkpoint, benchmarks: Sequence[Benchmark]) -> None:
        """Record size and PSNR of the network before compression."""
        self.content["before"] = described(parent, benchmarks, self.content["before"])

    def has_begun(self, stages: Sequence[Stage]) -> bool:
        """Return whether stages with these options and results were done, all of them or the first ones."""
        done = list(zip(self._previous, stages, strict=False))
        return bool(done) and all(_is_kept(entry, *stage) for entry, stage in done)

    def is_done(self, options: dict[str, Any], result: Path) -> bool:
        """Return whether an earlier run did the next stage, with the same inputs and options."""
        return _is_kept(self._next, options, result)

    @property
    def _next(self) -> dict[str, Any]:
        position = len(self.content["stages"])
        entry: dict[str, Any] = self._previous[position] if position < len(self._previous) else {}
        return entry

    def run(self, stage: str, options: dict[str, Any], result: Path, work: Callable[[], object]) -> None:
        """Do ``work``, which writes ``result``, unless ``is_done``."""
        if self.is_done(options, result):
            self.keep()
            return
        say(f"{self._name}: {stage}", err=True)
        start = time.monotonic()
        work()
        self.record(stage, options, result, time.monotonic() - start)

    def keep(self) -> None:
        """Take over the next stage as an earlier run did it."""
        say(f"{self._name}: {self._next.get('stage')} was done before", err=True)
        self._add(self._next)

    def record(self, stage: str, options: dict[str, Any], result: Path, seconds: float) -> None:
        """Record that the next stage was done now, which took ``seconds``."""
        self._previous = []
        self._add(
            {
                "stage": stage,
                "options": options,
                "result": result.name,
                "sha256": sha256_of(result),
                "seconds": round(seconds, 1),
            }
        )

    def _add(self, entry: dict[str, Any]) -> None:
        self.content["stages"].append(entry)
        self._write()

    def describe_result(self, checkpoint: Checkpoint, benchmarks: Sequence[Benchmark]) -> None:
        """Record size and PSNR of what the last stage made."""
        entry = self.content["stages"][-1]
        entry["after"] = described(checkpoint, benchmarks, entry.get("after", {}))
        self._write()

    def _write(self) -> None:
        # With what is still to be looked at: a kill now must not make finished stages forgotten.
        later = self._previous[len(self.content["stages"]) :]
        content = {**self.content, "stages": [*self.content["stages"], *later]}
        write_text(self._path, json.dumps(content, indent=2) + "\n")


def _is_kept(entry: dict[str, Any], options: dict[str, Any], result: Path) -> bool:
    """Return whether a stage was done with these options, and its result is there as it was made."""
    return entry.get("options") == options and result.is_file() and sha256_of(result) == entry.get("sha256")


def described(checkpoint: Checkpoint, benchmarks: Sequence[Benchmark], known: dict[str, Any]) -> dict[str, Any]:
    """Return parameters, multiply-adds, PSNR and SSIM of a checkpoint; those in ``known`` are not measured again."""
    network = checkpoint.build_network()
    sets = fingerprints(benchmarks)
    figures = {**_figures(checkpoint.provenance, sets), **_figures(known, sets)}
    measured = measure_quality(place(network), [(name, pairs) for name, pairs in benchmarks if name not in figures])
    figures |= {name: [measured[kind][name] for kind in FIGURES] for name in measured["psnr_y"]}
    return {
        "params": network.parameter_count,
        "multiply_adds": multiply_adds(checkpoint.build_network()),  # the count moves its network off the device
        **{kind: {name: figures[name][number] for name in sets} for number, kind in enumerate(FIGURES)},
        "eval": sets,
    }


FIGURES = ("psnr_y", "ssim_y")


def _figures(record: dict[str, Any], sets: dict[str, str]) -> dict[str, list[float | None]]:
    """Return PSNR and SSIM in a record of those sets that are the same now; a foreign record has none."""
    kinds, measured = [record.get(kind) for kind in FIGURES], record.get("eval")
    if not isinstance(measured, dict):
        return {}
    found = {}
    for name in (name for name in sets if measured.get(name) == sets[name]):
        values = [kind.get(name, "") for kind in kinds if isinstance(kind, dict)]
        if len(values) == len(FIGURES) and all(isinstance(value, float | None) for value in values):
            found[name] = values
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError):
        return {}  # no manifest, or an unreadable one: everything is done again
    return content if _is_manifest(content) else {}


def _is_manifest(content: Any) -> bool:
    """Return whether this has the shape of what ``Manifest`` writes, as far as it is read back."""
    if not isinstance(content, dict) or not isinstance(content.get("before"), dict):
        return False
    stages = content.get("stages")
    return isinstance(stages, list) and all(
        isinstance(stage, dict)
        and isinstance(stage.get("stage"), str)
        and isinstance(stage.get("seconds"), float)
        and isinstance(stage.get("after", {}), dict)
        for stage in stages
    )

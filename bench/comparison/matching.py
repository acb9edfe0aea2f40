"""Pairs of the same engine in two reports."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from drc_deploy.bench.report.records import EngineResult

MatchedBy = Literal["name", "checkpoint"]
Key = Callable[[EngineResult], Hashable]


@dataclass(frozen=True, slots=True)
class Match:
    """The same engine in both reports."""

    before: EngineResult
    after: EngineResult
    matched_by: MatchedBy


def by_name(engine: EngineResult) -> Hashable:
    """Return the key of engines with one name; figures of two scales never compare."""
    return engine.name, engine.engine.scale


def by_checkpoint(engine: EngineResult) -> Hashable:
    """Return the key of files with any name that hold the same network for the same device."""
    network = engine.engine
    return network.checkpoint_sha256, network.scale, network.precision, network.tile, engine.device


def match_engines(before: Sequence[EngineResult], after: Sequence[EngineResult]) -> list[Match]:
    """Pair the engines, in the order of ``before``: by name, and the others by checkpoint, precision and device.

    An engine whose checkpoint matches two others is left out.
    """
    matches = _matches(before, after, by_name, "name")
    rest_before = [engine for engine in before if all(engine is not match.before for match in matches)]
    rest_after = [engine for engine in after if all(engine is not match.after for match in matches)]
    matches += _matches(rest_before, rest_after, by_checkpoint, "checkpoint")
    return sorted(matches, key=lambda match: [engine is match.before for engine in before].index(True))


def _matches(
    before: Iterable[EngineResult], after: Iterable[EngineResult], key: Key, matched_by: MatchedBy
) -> list[Match]:
    first, second = _unique(before, key), _unique(after, key)
    return [Match(first[name], second[name], matched_by) for name in first if name in second]


def _unique(engines: Iterable[EngineResult], key: Key) -> dict[Hashable, EngineResult]:
    engines = list(engines)
    keys = [key(engine) for engine in engines]
    return {name: engine for name, engine in zip(keys, engines, strict=True) if keys.count(name) == 1}

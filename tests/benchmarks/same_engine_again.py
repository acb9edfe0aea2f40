"""How often two runs of the same engines are called different: ``python -m tests.benchmarks.same_engine_again JSON...``

Give reports of one command that was repeated on one machine. Whatever differs between them is noise, so every result
of a change is a false alarm.
"""

import itertools
import sys
from collections import Counter
from pathlib import Path

from drc_deploy.bench.comparison.compare import compare_reports
from drc_deploy.bench.report.report_files import read_report


def main(paths: list[str]) -> None:
    """Compare every report with every other one and count."""
    pairs = itertools.combinations([(path, read_report(Path(path))) for path in paths], 2)
    comparisons = [compare_reports(before, after, (first, second)) for (first, before), (second, after) in pairs]
    changes = [change for comparison in comparisons for change in comparison.engines]
    outside = sum(change.latency.significant for change in changes)
    memory = max(abs(change.peak_host_memory_bytes.growth or 0.0) for change in changes)
    print(f"{len(changes)} comparisons, of which {outside} have an interval without 1")  # noqa: T201
    print(", ".join(f"{count} {word}" for word, count in Counter(c.result for c in changes).items()))  # noqa: T201
    print(f"largest change of peak host memory: {memory:.1%}")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])

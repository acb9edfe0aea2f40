"""The tables of the DRC paper that ``ablate`` makes by name: which rows each has, and what varies between them."""

from collections.abc import Sequence
from dataclasses import dataclass

from drc_deploy.errors import UsageError

PAPER = "arXiv 2207.07929"
ROW_OF_THE_NETWORK = "own"
"""A row of trainings with the kind of duals that the network has: progressive ones, or one for a network of one
image."""


@dataclass(frozen=True, slots=True)
class PaperTable:
    """One table or figure of the paper."""

    name: str
    """As it is typed."""
    source: str
    title: str
    summary: str
    """For the list of names."""
    rows: tuple[str, ...]
    """Methods of pruning, or kinds of duals of trainings. The others are compared with the first."""
    trains: bool = False
    """Whether rows are trainings, instead of prunings of a trained network."""
    ratios: tuple[float, ...] = ()
    """Shares to remove that the paper has."""
    values: tuple[float, ...] = ()
    """Of the weight that the table is about; the others are compared with the first."""
    note: str = ""
    """In what the rows are not those of the paper."""

    @property
    def heading(self) -> str:
        """Return the title with its source."""
        return f"{self.title} (as {self.source})"

    def choose_rows(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the rows of these names, in the order of the table; of no names, all.

        Raises:
            UsageError: the table has no such row.
        """
        if unknown := [name for name in names if name not in self.rows]:
            raise UsageError(f"{self.name} has no row {unknown[0]!r}.", f"Choose from {', '.join(self.rows)}.")
        return tuple(row for row in self.rows if not names or row in names)


_AS_PUBLISHED = "DRC as published is the paper's method; DRC is that of this program."
PAPER_TABLES = (
    PaperTable(
        "table2",
        "Table 2",
        "Pruning methods",
        "pruning methods, 30 % removed",
        ("cp", "thinet", "dcp", "srp", "magnitude", "uniform-published", "uniform", "drc-published", "drc"),
        ratios=(0.3,),
        note=f"Magnitude and DRC's pruning at uniform widths are not in the paper's table. {_AS_PUBLISHED}",
    ),
    PaperTable(
        "table4",
        "Table 4",
        "How widths are chosen",
        "how widths are chosen, 30 % removed",
        (
            "uniform",
            "by-cost",
            "random",
            "darts",
            "darts-shared",
            "drc-plain",
            "drc-published",
            "drc-published-widths",
            "drc",
        ),
        ratios=(0.3,),
        note=f"The rule by cost and published widths pruned as here are not in the paper's table. {_AS_PUBLISHED}",
    ),
    PaperTable(
        "table5",
        "Table 5",
        "Training without and with duals",
        "training without and with duals",
        ("none", ROW_OF_THE_NETWORK),
        trains=True,
    ),
    PaperTable(
        "table6",
        "Table 6",
        "Duals in search, pruning and fine-tuning",
        "pruning without and with duals, 30, 50 and 70 % removed",
        ("no-duals", "drc"),
        ratios=(0.3, 0.5, 0.7),
        note="Both rows are DRC as this program has it, and start from the same network.",
    ),
    PaperTable(
        "table7",
        "Table 7",
        "Design of the duals",
        "training with no duals, a single one, progressive and wide ones",
        ("none", "single", "progressive", "wide"),
        trains=True,
    ),
    PaperTable(
        "table8",
        "Table 8",
        "An extra cycle from the HR image",
        "training with duals, and with an extra cycle from the HR image",
        ("progressive", "hr-cycle"),
        trains=True,
        note="The paper states the cost of training in multiply-adds and does not define it; here it is milliseconds.",
    ),
    PaperTable(
        "lambda",
        "Figure 7a",
        "Weight of the duals in training",
        "training with several weights of the duals",
        (ROW_OF_THE_NETWORK,),
        trains=True,
        values=(0.0, 0.001, 0.01, 0.1, 1.0, 10.0),
        note="The row without duals is not in the paper's figure.",
    ),
    PaperTable(
        "gamma",
        "Figure 7b",
        "Weight of the dual regression loss in pruning",
        "pruning with several weights of the dual regression loss, 30 % removed",
        ("drc-published", "drc"),
        ratios=(0.3,),
        values=(0.0, 0.01, 0.1, 1.0, 10.0),
        note=f"{_AS_PUBLISHED} The widths of a seed are those of one search.",
    ),
)


def find_table(name: str) -> PaperTable:
    """Return the table of a known name."""
    return {table.name: table for table in PAPER_TABLES}[name]

"""Names that options of training choose from; apart, so that the command line lists them without importing torch."""

from typing import Literal

DualVariant = Literal["none", "single", "progressive", "wide", "hr-cycle"]
"""Without duals; with one kind of them; or progressive ones with a second cycle that starts from the HR image."""
Schedule = Literal["cosine", "constant"]
"""How the learning rate goes on after the warm-up."""
TrainingPrecision = Literal["fp32", "bf16", "fp16"]
"""What the convolutions of a training step are computed in."""
SearchMethod = Literal["drc", "darts-shared", "darts", "random", "uniform"]
"""The paper's search; without importance; without shared weights either; or no search at all (paper, Table 4)."""
PruneMethod = Literal["drc", "dcp", "cp", "thinet", "srp"]
"""The paper's pruning, and those that it compares with (paper, Table 2)."""

"""Which widths a layer may be given."""

import math

from drc_deploy.errors import UsageError
from drc_deploy.widths import Target

CANDIDATE_SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Candidate widths as shares of the width that the ratio allows (paper, Section 4.1)."""
SHARES_UNDER_A_BUDGET = 8
"""Number of candidates where the network as a whole is bounded: some layers may then stay wide."""


def check_ratio(ratio: float) -> None:
    """Check a pruning ratio.

    Raises:
        UsageError: it is not between 0 and 1.
    """
    if not 0 < ratio < 1:
        raise UsageError(f"a ratio of {ratio} is not between 0 and 1.", "0.3 removes about a third of the channels.")


def ratio_tag(ratio: float) -> str:
    """Name a ratio in file names, a different one for each: ``r30`` for 0.3, ``r30_4`` for 0.304."""
    percent, _, fraction = f"{100 * ratio:.8g}".partition(".")
    return f"r{percent:>02}" + (f"_{fraction}" if fraction else "")


def candidate_widths(full: int, ratio: float, round_to: int = 4, target: Target = "channels") -> list[int]:
    """Return the candidate widths of a layer of ``full`` channels, narrow to wide; duplicates are kept.

    Shares of ``full``, rounded to a multiple of ``round_to`` (ties down), at least ``round_to`` and at most ``full``.
    The rounding is the authors' code's; the paper has none. Under a bound on channels the shares are the paper's,
    below 1 - ratio. Under a bound on the whole network they go on up to the full width.
    """
    if target == "channels":
        shares = [(1 - ratio) * share for share in CANDIDATE_SHARES]
    else:
        least, steps = 0.5 * (1 - ratio), SHARES_UNDER_A_BUDGET - 1
        shares = [least + (1 - least) * i / steps for i in range(SHARES_UNDER_A_BUDGET)]
    return [_rounded(full, share, round_to) for share in shares]


def _rounded(full: int, share: float, round_to: int) -> int:
    width = math.floor(full * share + 1e-9)  # 0.7 * 10 is 6.999... in floating point
    remainder = width % round_to
    width += round_to - remainder if 2 * remainder > round_to else -remainder
    return min(max(width, round_to), full)

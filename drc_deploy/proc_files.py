"""Facts about the machine from the small text files of Linux."""

from pathlib import Path


def cpu_name(root: Path = Path("/")) -> str | None:
    """Return the model of the first core: x86 calls it `model name`, some ARM boards `Model` or `Hardware`."""
    fields = dict(colon_lines(root / "proc/cpuinfo"))
    return next((fields[key] for key in ("model name", "Model", "Hardware") if fields.get(key)), None)


def cpu_flags(root: Path = Path("/")) -> frozenset[str]:
    """Return the instruction sets of the first core as Linux spells them; none where it is not Linux on x86."""
    return frozenset(dict(colon_lines(root / "proc/cpuinfo")).get("flags", "").split())


def colon_lines(path: Path) -> list[tuple[str, str]]:
    """Parse ``key : value`` lines; the first of equal keys wins in a dict, because the order is reversed."""
    lines = (read_text(path) or "").splitlines()
    pairs = (line.partition(":") for line in reversed(lines))
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def read_text(path: Path) -> str | None:
    """Return a file's text; None if it cannot be read or is empty."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    except OSError:
        return None

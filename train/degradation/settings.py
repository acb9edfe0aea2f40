"""Settings of a degradation: those that papers use, by name, and others from a TOML file."""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from drc_deploy.errors import InputError, UsageError
from drc_deploy.images.blur import Reduction
from drc_deploy.input_files import read_text

Range = tuple[float, float]
"""The least and the largest value; each image gets one between them, all equally likely."""
LARGEST_KERNEL = 63
LEAST_SIGMA = 0.1
"""Of a narrower Gaussian nothing would be left on the pixels around it."""
NARROWEST_CENTRED = 0.5
"""Of Gaussians that are moved to lie between pixels."""
LOUDEST_NOISE = 100.0
BICUBIC = "bicubic"


@dataclass(frozen=True, slots=True)
class Degradation:
    """What is done to a photograph, in this order: Gaussian blur, reduction, noise, JPEG."""

    sigma: Range | None = None
    """Standard deviations of the Gaussian along its two axes in HR pixels. Neither this nor ``variance``: no blur."""
    variance: Range | None = None
    """The same as variances: large ones are drawn more often then."""
    kernel_size: int = 21
    """Side of the blur kernel in HR pixels, odd."""
    isotropic: float = 0.0
    """Share of kernels that are equally wide along both axes. The others have a random direction."""
    disturbance: Range = (0.0, 0.0)
    """Each weight of a kernel is multiplied by one plus a number of its own in this range."""
    reduction: Reduction = "bicubic"
    """Bicubic with antialiasing; or every ``scale``-th pixel, by kernels that are moved to keep the image in place."""
    noise: Range = (0.0, 0.0)
    """Standard deviation of normal noise on the LR image, in grey levels of 255."""
    jpeg: tuple[int, int] | None = None
    """Quality of JPEG compression of the LR image; None: none."""

    def __post_init__(self) -> None:
        """Refuse settings that no image can be made with.

        Raises:
            UsageError: a value is out of its range.
        """
        narrowed = self.kernel_size != 21 or self.isotropic or self.disturbance != (0, 0)
        if narrowed and not self.blurs:
            raise UsageError("kernels are described that have no width.", "Give sigma or variance.")
        if self.sigma and self.variance:
            raise UsageError("sigma and variance both say how wide kernels are.", "Give one of them.")
        if self.reduction == "subsample" and not self.blurs:
            raise UsageError("pixels that are left out need a blur before.", "Give sigma or variance.")
        if not (1 <= self.kernel_size <= LARGEST_KERNEL and self.kernel_size % 2):
            raise _out_of_range("kernel_size", f"an odd number from 1 to {LARGEST_KERNEL}", self.kernel_size)
        if not 0 <= self.isotropic <= 1:
            raise _out_of_range("isotropic", "a share from 0 to 1", self.isotropic)
        self._check_range("sigma", LEAST_SIGMA, LARGEST_KERNEL)
        self._check_range("variance", LEAST_SIGMA**2, LARGEST_KERNEL**2)
        self._check_range("disturbance", -0.99, 10)
        self._check_range("noise", 0, LOUDEST_NOISE)
        self._check_range("jpeg", 1, 100)

    def _check_range(self, name: str, least: float, largest: float) -> None:
        value = getattr(self, name)
        if value is None:
            return
        low, high = value
        if not (math.isfinite(low) and least <= low <= high <= largest):
            raise _out_of_range(name, f"two numbers from {least:g} to {largest:g}, the smaller first", list(value))

    def check_scale(self, scale: int) -> None:
        """Find out whether kernels can be centred over the pixels that one LR pixel stands for.

        Raises:
            UsageError: ``subsample`` with too small kernels, or with Gaussians that are too narrow or too wide.
        """
        if self.reduction != "subsample":
            return
        least = 4 * scale + 1
        if self.kernel_size < least:
            raise _out_of_range("kernel_size", f"at least {least} to subsample by {scale}", self.kernel_size)
        low, high = self.sigma or tuple(math.sqrt(value) for value in self.variance or ())
        if low < NARROWEST_CENTRED or high > self.kernel_size / 5:
            wanted = f"{NARROWEST_CENTRED} to a fifth of kernel_size to subsample"
            raise _out_of_range("the standard deviation", f"from {wanted}", [round(low, 3), round(high, 3)])

    @property
    def words(self) -> str:
        """Return the settings that are not the usual ones, such as ``sigma 0.6 to 5, kernel_size 31``."""
        changed = [field for field in dataclasses.fields(self) if getattr(self, field.name) != field.default]
        values = {field.name: getattr(self, field.name) for field in changed}
        texts = {name: f"{v[0]:g} to {v[1]:g}" if isinstance(v, tuple) else v for name, v in values.items()}
        return ", ".join(f"{name} {text}" for name, text in texts.items())

    @property
    def blurs(self) -> bool:
        """Whether there is a blur."""
        return bool(self.sigma or self.variance)


def _out_of_range(name: str, wanted: str, value: object) -> UsageError:
    return UsageError(f"{name} must be {wanted}, not {value}.", "Write another value.")


PUBLISHED: dict[str, dict[int, Degradation]] = {
    "gaussian": {scale: Degradation(sigma=(0.2, float(scale)), isotropic=1.0) for scale in (2, 3, 4)},
    "dcls": {
        scale: Degradation(sigma=(0.6, 5.0), kernel_size=size, disturbance=(0.0, 0.25))
        for scale, size in ((2, 11), (4, 31))
    },
    "div2krk": {
        scale: Degradation(variance=(0.175 * scale, 2.5 * scale), disturbance=(-0.4, 0.4), reduction="subsample")
        for scale in (2, 4)
    },
}
"""Name -> scale -> settings.

``gaussian`` is "setting 1" and ``dcls`` "setting 2" of DCLS (Luo et al., CVPR 2022, section 4.1, and its code).
``div2krk`` is the rule by which the LR images of DIV2KRK were made (Bell-Kligler et al., "KernelGAN", NeurIPS 2019:
the authors' data set generator, whose numbers differ from the paper's text).
"""
NAMES = (BICUBIC, *PUBLISHED)


def find_degradation(reference: str | Path, scale: int) -> Degradation | None:
    """Return the settings of a name or of a TOML file; None for ``bicubic``, without anything else.

    Raises:
        InputError: the file cannot be read, or is no TOML.
        UsageError: the paper has no such scale, or the file has unknown keys or values out of range.
    """
    if reference == BICUBIC:
        return None
    if reference not in PUBLISHED:
        found = read_degradation(Path(reference))
        try:
            found.check_scale(scale)
        except UsageError as error:
            raise UsageError(f"{reference}: {error.message}", error.hint) from error
        return found
    by_scale = PUBLISHED[str(reference)]
    if scale not in by_scale:
        known = ", ".join(f"x{known}" for known in by_scale)
        raise UsageError(
            f"{reference} was published for {known}, not for x{scale}.",
            "Write the settings that you want into a TOML file.",
        )
    return by_scale[scale]


def degradation_of(provenance: Mapping[str, Any]) -> Degradation | None:
    """Return the degradation that a checkpoint was trained with last, by its provenance; None: bicubic reduction."""
    stage: Any = provenance
    while isinstance(stage, Mapping):
        if isinstance(data := stage.get("data"), Mapping):
            settings = data.get("degradation")
            return msgspec.convert(settings, Degradation) if settings else None
        stage = stage.get("before")
    return None


def read_degradation(path: Path) -> Degradation:
    """Read settings from a TOML file whose keys are the fields of ``Degradation``.

    Raises:
        InputError: it cannot be read, or is no TOML.
        UsageError: unknown keys, or values that are out of range.
    """
    try:
        content = msgspec.toml.decode(read_text(path, "utf-8-sig"), type=dict[str, Any])
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}.", "Check its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not valid TOML: {error}.", "Write one setting a line: sigma = [0.6, 5.0]."
        ) from error
    if not content:
        raise UsageError(f"{path} sets nothing.", "Write settings such as sigma = [0.6, 5.0], or give bicubic.")
    fields = [field.name for field in dataclasses.fields(Degradation)]
    for key in content:
        if key not in fields:
            close = difflib.get_close_matches(key, fields, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known are {', '.join(fields)}."
            raise UsageError(f"{path} sets {key!r}, which is no setting of a degradation.", hint)
    try:
        return msgspec.convert(content, Degradation)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"{path}: {error}.", 'Ranges are two numbers: sigma = [0.6, 5.0]; reduction is "bicubic" or "subsample".'
        ) from error
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", error.hint) from error

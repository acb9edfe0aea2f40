"""Benchmark sets of degraded images: ``HR/``, ``LRx<scale>/``, the blur kernels, and a record of what was done."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from drc_deploy import __version__
from drc_deploy.errors import UsageError
from drc_deploy.files import write_text
from drc_deploy.images.blur import kernel_folder
from drc_deploy.images.png_stream import Layout
from drc_deploy.images.writing import write_image
from drc_deploy.pairs import HR_FOLDER, Photograph, find_images
from drc_deploy.progress import progress
from drc_deploy.train.data.whole_folder import check_folder, put_in_place, temporary_folder
from drc_deploy.train.degradation.degrade import degrade_image
from drc_deploy.train.degradation.settings import Degradation, find_degradation
from drc_deploy.train.loop.limits import check_seed


@dataclass(frozen=True, slots=True)
class SetOptions:
    """How a set is made."""

    degradation: str
    """A name, or a TOML file."""
    scale: int
    seed: int
    """Decides the random values of each image, with its number in the order of names."""
    restart: bool = False
    """Replace the set that is there."""

    @property
    def lr_folder(self) -> str:
        """Name of the folder of LR images."""
        return f"LRx{self.scale}"

    @property
    def kernel_folder(self) -> str:
        """Name of the folder of blur kernels."""
        return kernel_folder(self.scale)

    @property
    def record(self) -> str:
        """Name of the file that says what was done."""
        return f"degradation_x{self.scale}.json"


def make_set(source: Path, target: Path, options: SetOptions) -> dict[str, Any]:
    """Degrade the images of a folder into a benchmark set, which is there only when it is complete.

    HR images are cropped to multiples of the scale. A kernel file holds ``kernel`` (see ``draw_kernel``), ``scale`` and
    ``reduction``.

    Args:
        source: Holds HR images, or a folder ``HR`` of them.
        target: Folder of the set.
        options: What is done.

    Returns:
        The record: settings, seed, and the noise and quality of each image.

    Raises:
        ImageError: an image is unreadable, or too small for the kernel.
        InputError: there are no images, or the degradation's file cannot be read.
        UsageError: impossible settings, or ``target`` holds something else.
        OutputError: the set cannot be written, or another process makes it.
    """
    check_seed(options.seed)
    settings = find_degradation(options.degradation, options.scale)
    source, target = source.resolve(), target.resolve()
    folder = source / HR_FOLDER if (source / HR_FOLDER).is_dir() else source
    images = find_images(folder.parent, folder.name)
    _check_replaceable(target, options)
    with temporary_folder(target) as new:
        done = []
        with progress("Degrading", len(images)) as bar:
            for number, (name, path) in enumerate(images.items(), start=1):
                done.append({"name": name, **_degrade(path, new, settings, options, number)})
                bar.advance(note=name)
        record = {
            "degradation": Path(options.degradation).name,
            "settings": asdict(settings) if settings else None,
            "scale": options.scale,
            "seed": options.seed,
            "source": source.name,
            "images": done,
            "drc_deploy": __version__,
        }
        write_text(new / options.record, json.dumps(record, indent=2) + "\n")
        _check_replaceable(target, options)  # once more: reading took its time
        put_in_place(new, target)
    return record


def _degrade(
    path: Path, folder: Path, settings: Degradation | None, options: SetOptions, number: int
) -> dict[str, Any]:
    """Write one image at both sizes and its kernel, and return its random values."""
    pair, scale, decided = Photograph(path).load(options.scale), options.scale, {}
    if settings is not None:
        lr, values = degrade_image(pair.hr, settings, scale, (options.seed, number), str(path))
        pair, decided = replace(pair, lr=lr), {"noise": round(values.deviation, 3), "jpeg": values.jpeg}
        if values.kernel is not None:
            (folder / options.kernel_folder).mkdir(exist_ok=True)
            file = folder / options.kernel_folder / f"{pair.name}.npz"
            np.savez(file, kernel=values.kernel, scale=scale, reduction=settings.reduction)
    for kind, image in ((HR_FOLDER, pair.hr), (options.lr_folder, pair.lr)):
        (folder / kind).mkdir(exist_ok=True)
        write_image(folder / kind / f"{pair.name}.png", [image], Layout.of(image))
    return decided


def _check_replaceable(target: Path, options: SetOptions) -> None:
    """Check that nothing but a set of degraded images would be lost, and that only on request.

    Raises:
        UsageError: it would.
    """
    check_folder(target)
    found = {path.name for path in target.iterdir()} if target.exists() else set()
    ours = {HR_FOLDER, options.lr_folder, options.kernel_folder, options.record}
    if not found:
        return
    if any(name.startswith("degradation_x") for name in found - ours):
        raise UsageError(f"{target} holds a set of another scale.", "Give another folder: it is for one scale.")
    if options.record not in found or found - ours:
        raise UsageError(f"{target} holds other files, such as {min(found - ours or found)}.", "Give another folder.")
    if not options.restart:
        raise UsageError(f"{target} holds a set already.", "Give another folder, or add --restart to replace it.")

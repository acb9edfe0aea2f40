"""What a user should know about an image file that was read: what its result will lack, and what may look wrong."""

from collections.abc import Iterator
from typing import Any

from PIL import Image

from drc_deploy.images.metadata import Metadata
from drc_deploy.images.modes import CONVERTED_MODES
from drc_deploy.images.opening import BITS
from drc_deploy.images.tags.colour import high_dynamic_range
from drc_deploy.images.tags.xmp import EXTENDED, GAIN_MAPS, mentions

_PLAIN_BITS = 8
_READ_IN_8_BITS = ("AVIF", "JXL")
_ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1"
"""Begins the segment of a JPEG that describes a gain map by ISO 21496-1."""


def notes_on(image: Image.Image, metadata: Metadata, name: str, *, animated: bool = False) -> Iterator[str]:
    """Yield a sentence for each thing to know of a loaded file.

    Args:
        image: the file in Pillow.
        metadata: what it says of itself.
        name: what the sentences call it.
        animated: all frames are used, and not the first only.
    """
    if not animated:
        yield from _other_pictures(image, metadata, name)
    bits = image.info.get(BITS)
    if image.format in _READ_IN_8_BITS and image.mode != "I;16" and bits and bits > _PLAIN_BITS:
        yield f"{name} has {bits} bits a sample: they are read as {_PLAIN_BITS}."
    if _is_partly_empty(image):
        yield f"{name} has a frame that is smaller than the whole image: the rest has one of its colours."
    if metadata.icc_profile is None and image.info.get("icc_profile") and image.mode not in CONVERTED_MODES:
        yield f"{name} has a colour profile that is damaged or of other colours than its own: it is left out."
    if curve := high_dynamic_range(metadata.colour):
        yield (
            f"{name} has a high dynamic range ({curve}), which networks trained on photographs do not know: check that "
            "its result looks right."
        )
    if metadata.xmp and not mentions(metadata.xmp):
        yield f"{name} has XMP that is damaged: it is left out."


def _is_partly_empty(image: Any) -> bool:
    """Return whether the first frame of a GIF leaves pixels open that Pillow cannot make transparent."""
    covered = getattr(image, "dispose_extent", None)
    return image.format == "GIF" and covered != (0, 0, *image.size) and "transparency" not in image.info


def _other_pictures(image: Image.Image, metadata: Metadata, name: str) -> Iterator[str]:
    """Yield what lies behind the first picture."""
    properties = mentions(metadata.xmp) if metadata.xmp else set()
    count = getattr(image, "n_frames", 1)
    if _has_gain_map(image, {namespace for namespace, _ in properties}):
        yield f"{name} has a gain map for screens of high dynamic range: it is left out."
    elif count > 1 and image.format == "MPO":
        yield f"{name} holds {count} pictures: only the first is used."
    elif count > 1:
        yield f"{name} has {count} frames: only the first is used."
    if EXTENDED in properties:
        yield f"{name} has XMP in several parts: all but the first are left out."


def _has_gain_map(image: Any, namespaces: set[str]) -> bool:
    if any("gainmap" in name for name in image.info.get("aux", ())):  # of a HEIC
        return True
    segments = getattr(image, "applist", ())
    return not namespaces.isdisjoint(GAIN_MAPS) or any(data.startswith(_ISO_GAIN_MAP) for _, data in segments)

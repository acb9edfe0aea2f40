"""What is wrong with an image file that could not be decoded, as an error for users."""

from typing import BinaryIO

from drc_deploy.errors import ImageError
from drc_deploy.images.tiff_kinds import why_unreadable

_SIGNATURES = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"RIFF": "WebP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"BM": "BMP",
    b"GIF8": "GIF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
}
"""First bytes of a file -> its format; + is BigTIFF."""
_AVIF_BRANDS, _HEIC_BRANDS = (
    (b"avif", b"avis"),
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
)
_HEAD_BYTES = 64
_READABLE = "PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, JPEG 2000, JPEG XL and HEIC can."
_EXPORT = "xport it with 8 or 16 bits, in grey or RGB."


def kind_of(stream: BinaryIO) -> str | None:
    """Return the format that a file begins like; None for one that is not read here."""
    stream.seek(0)
    head = stream.read(_HEAD_BYTES)
    if head[4:8] == b"ftyp":
        brands = [head[start : start + 4] for start in range(8, min(len(head), int.from_bytes(head[:4], "big")), 4)]
        kinds = (("AVIF", _AVIF_BRANDS), ("HEIC", _HEIC_BRANDS))  # mif1 stands in both
        return next((kind for kind, known in kinds if not set(known).isdisjoint(brands)), None)
    return next((kind for signature, kind in _SIGNATURES.items() if head.startswith(signature)), None)


def unidentified(stream: BinaryIO, name: str) -> ImageError:
    """Return the error of a file of an unknown format, or of a known one with a head that Pillow cannot read."""
    kind = kind_of(stream)
    if kind is None:
        return ImageError(f"{name} is not an image that can be read here.", _READABLE)
    return _unread_kind(stream, name) or ImageError(
        f"{name} is damaged, or a {kind} of a kind that cannot be read here.", f"Copy the file again, or e{_EXPORT}"
    )


def undecodable(error: Exception, stream: BinaryIO, name: str) -> ImageError:
    """Return the error of a file that a decoder gave up on with ``error``."""
    if "PngImagePlugin.MAX_TEXT" in str(error):
        return ImageError(
            f"{name} holds a text or a profile that unpacks to more than is read here.",
            "Save it again without metadata.",
        )
    kind = kind_of(stream)
    hint = " `upscale --tolerant` takes what is left of a JPEG." if kind == "JPEG" else ""
    why = "" if kind == "JPEG XL" else f": {error}"  # its decoder only asks for a build that would say more
    return _unread_kind(stream, name) or ImageError(f"{name} is damaged{why}.", f"Copy or export the file again.{hint}")


def _unread_kind(stream: BinaryIO, name: str) -> ImageError | None:
    """Return the error of a TIFF that may be whole, but is of a kind that is not read."""
    reason = why_unreadable(stream) if kind_of(stream) == "TIFF" else None
    return ImageError(f"{name} {reason}, which cannot be read here.", f"E{_EXPORT}") if reason else None

"""Compression of PNG and TIFF: isal has the interface of zlib and takes a quarter of its time."""

try:  # not asked for on processors that it has no code for
    from isal import isal_zlib as deflate
except ImportError:
    import zlib as deflate  # type: ignore[no-redef]

__all__ = ["deflate"]

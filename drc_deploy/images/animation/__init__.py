"""Animations: GIF, APNG, animated WebP and AVIF in, and the first three out, one frame at a time."""

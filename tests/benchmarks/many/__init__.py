"""Many images, many callers."""

"""Upscaling as a service over HTTP, for many callers at a time."""

"""Images in and out: files, colour, depth, metadata, and resizing."""

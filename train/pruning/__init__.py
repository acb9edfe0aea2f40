"""Which channels a layer keeps."""

"""What an image file says about its pixels: EXIF, IPTC, XMP, colours, and the chunks of a PNG."""

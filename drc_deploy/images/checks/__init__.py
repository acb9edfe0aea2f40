"""Whether image files hold what they promise, where their decoders hide that they do not."""

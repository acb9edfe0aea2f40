"""How LR images are made of photographs: blur, reduction, noise and JPEG."""

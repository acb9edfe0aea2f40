"""Stage: an engine file and an image in, the upscaled image out. Runs on a machine without torch and onnx."""

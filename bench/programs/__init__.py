"""Other programs that run the same network: torch, OpenVINO, ncnn, trtexec."""

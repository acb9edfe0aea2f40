"""A program that takes the options of trtexec which it is told to know, and writes the files that trtexec writes.

Its network is nearest-neighbour enlargement by 4 of uint8. The forms of the files are those of TensorRT 10.7.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np

COMMON = {"--onnx", "--saveEngine", "--loadEngine", "--loadInputs", "--shapes", "--minShapes", "--optShapes"}
COMMON |= {"--maxShapes", "--warmUp", "--duration", "--iterations", "--exportTimes", "--exportOutput", "--noTF32"}
KNOWN = {
    "10": COMMON | {"--stronglyTyped", "--skipInference", "--useSpinWait", "--useCudaGraph", "--noDataTransfers"},
    "11": COMMON | {"--skipInference", "--includeDataTransfers", "--noSpinWait", "--noCudaGraph"},
}


def main(version: str, log: Path, arguments: list[str]) -> int:
    options = dict(argument.partition("=")[::2] for argument in arguments)
    print(f"&&&& RUNNING TensorRT.trtexec [TensorRT v{version}0700] # trtexec {' '.join(arguments)}")  # noqa: T201
    with log.open("a") as stream:
        stream.write(json.dumps(arguments) + "\n")
    if "--help" in options:
        print("\n".join(f"  {name}=spec  Does something" for name in sorted(KNOWN[version])))  # noqa: T201
        return 0
    unknown = options.keys() - KNOWN[version]
    if unknown:
        print(f"[E] Unknown option: {sorted(unknown)}")  # noqa: T201
        return 1
    if "--saveEngine" in options:
        Path(options["--saveEngine"]).write_bytes(b"plan")
    if "--loadInputs" in options:
        infer(options)
    return 0


def infer(options: dict[str, str]) -> None:
    name, _, path = options["--loadInputs"].partition(":")
    match = re.fullmatch(r"lr:1x(\d+)x(\d+)x3", options.get("--shapes", "lr:1x16x24x3"))
    assert match
    assert name == "lr"
    tile = np.frombuffer(Path(path).read_bytes(), np.uint8).reshape(int(match[1]), int(match[2]), 3)
    if "--exportOutput" in options:
        large = tile.repeat(4, 0).repeat(4, 1)
        dimensions = "x".join(str(side) for side in (1, *large.shape))
        tensors = [{"name": "sr", "dimensions": dimensions, "values": large.ravel().tolist()}]
        Path(options["--exportOutput"]).write_text(json.dumps(tensors))
    if "--exportTimes" in options:
        query = {"startComputeMs": 1.0, "endComputeMs": 3.0, "h2dMs": 0.5, "computeMs": 2.0, "d2hMs": 0.25}
        times = [{**query, "latencyMs": 2.75 + run} for run in range(int(options["--iterations"]))]
        Path(options["--exportTimes"]).write_text(json.dumps(times))
        print("[W] * GPU compute time is unstable, with coefficient of variance = 4.37%.")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))

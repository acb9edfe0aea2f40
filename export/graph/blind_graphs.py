"""The two parts of a blind network: the graph that estimates the blur kernel of an image, and the one that is given it.

The whole graph estimates a kernel for each tile. Tiles of one image are to have one, which may be known.
"""

import dataclasses
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from drc_deploy.engine_info import KERNEL_NAME, EngineInfo
from drc_deploy.errors import VerificationError
from drc_deploy.export.compare.samples import tile_batch
from drc_deploy.export.compare.widening import open_for_check, readable_on_cpu
from drc_deploy.export.graph.graph_edit import drop_unused_constants, set_nodes
from drc_deploy.export.graph.variants import describe, make_variant
from drc_deploy.files import write_bytes
from drc_deploy.runtime.backends.blind_parts import open_blind_parts

CHECK_PX = 72, 56
"""Height and width of the images on which the parts are compared with the whole."""
LARGEST_DIFFERENCE = 0.05
"""Between both, in grey levels: they are the same operations, which a library may fuse otherwise."""


def write_parts(body: onnx.ModelProto, info: EngineInfo, estimator: Path, restorer: Path, whole: Path) -> None:
    """Write both parts, and compare what they make together with the whole network.

    Args:
        body: the graph of all variants, from ``trace_graph``.
        info: of the variants.
        estimator: ``NAME.kernel.onnx``.
        restorer: ``NAME.restorer.onnx``.
        whole: the float32 variant.

    Raises:
        VerificationError: they make another image.
    """
    info = dataclasses.replace(info, io_dtype="float32", tile=None)
    for path, part in zip((estimator, restorer), make_parts(make_variant(body, info), info), strict=True):
        write_bytes(path, part.SerializeToString())
    with open_for_check(whole) as backend, readable_on_cpu(estimator) as found, readable_on_cpu(restorer) as given:
        tile = tile_batch(1, *(backend.info.tile or map(info.taken_side, CHECK_PX))).astype(np.float32)
        batch = tile.repeat(info.max_batch, axis=0)  # equal tiles, which the whole gives equal kernels
        expected = backend.run(batch)
        with open_blind_parts(found, given) as parts:
            difference = np.abs(parts.run(batch) - expected).max()
    if difference > LARGEST_DIFFERENCE:
        raise VerificationError(
            f"the parts of the network are {difference:.3g} grey levels from the whole.", "Run the checkpoint itself."
        )


def make_parts(whole: onnx.ModelProto, info: EngineInfo) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Return the graph from ``INPUT_NAME`` to ``KERNEL_NAME``, and that from both to ``OUTPUT_NAME``.

    Args:
        whole: of float32 pixels, from ``make_variant``. Left as it is.
        info: its metadata.
    """
    assert info.kernel_size is not None
    sides = [1, info.kernel_size, info.kernel_size]
    (lr,), (sr,) = whole.graph.input, whole.graph.output
    batch = lr.type.tensor_type.shape.dim[0]
    found = helper.make_tensor_value_info(KERNEL_NAME, TensorProto.FLOAT, [batch.dim_value or batch.dim_param, *sides])
    given = helper.make_tensor_value_info(KERNEL_NAME, TensorProto.FLOAT, [1, *sides])
    return _part(whole, info, [lr], found), _part(whole, info, [lr, given], sr)


def _part(
    whole: onnx.ModelProto, info: EngineInfo, inputs: list[onnx.ValueInfoProto], output: onnx.ValueInfoProto
) -> onnx.ModelProto:
    """Return what computes one tensor of others."""
    part, wanted, kept = deepcopy(whole), {output.name}, []
    names = {value.name for value in inputs}
    for node in reversed(part.graph.node):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(set(node.input) - names)
    set_nodes(part, reversed(kept))
    drop_unused_constants(part)
    del part.graph.input[:], part.graph.output[:], part.graph.value_info[:]
    part.graph.input.extend(inputs)
    part.graph.output.append(output)
    describe(part, info)
    onnx.checker.check_model(part, full_check=True)
    return part

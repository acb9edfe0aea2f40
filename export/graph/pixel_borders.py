"""The operations of a graph on pixels in [0, 255], at its two borders: few, and they need more precision than the rest.

At the entry lie normalisation and enlargement; at the exit the convolution that makes the image, since 8 bits need
more than the 11 of a half-precision sum, and what brings its result back to pixels.
"""

from collections.abc import Callable, Mapping

import onnx

from drc_deploy.export.graph.cubic import MOST_CHANNELS
from drc_deploy.export.graph.graph_edit import attributes_of, only_reader

_CONTRACTIONS = {"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"}
_OF_SHAPES = {"Shape", "Size"}
"""Operations whose results depend on the size of their input alone."""


def image_tensors(model: onnx.ModelProto) -> set[str]:
    """Return the tensors whose values depend on the image, and not only on its size."""
    found = {value.name for value in model.graph.input}
    for node in model.graph.node:
        if node.op_type not in _OF_SHAPES and found.intersection(node.input):
            found.update(node.output)
    return found


def pixel_nodes(model: onnx.ModelProto) -> set[str]:
    """Return the names of the first outputs of all nodes that compute on pixels.

    At the entry these are all from the input to the first convolution or matrix product that gives features, and at
    the exit all from the last one, itself included, to the output. A convolution from one image to another, as for a
    mean shift or a bicubic enlargement, belongs to its border and does not end it.
    """
    images = image_tensors(model)
    weights = {value.name: list(value.dims) for value in model.graph.initializer}

    def ends(node: onnx.NodeProto) -> bool:
        return node.op_type in _CONTRACTIONS and not _keeps_image(model, node, weights)

    return _entry(model, images, ends) | _exit(model, images, ends)


def _entry(model: onnx.ModelProto, images: set[str], ends: Callable[[onnx.NodeProto], bool]) -> set[str]:
    pixels, found = {value.name for value in model.graph.input}, set()
    for node in model.graph.node:
        read = images.intersection(node.input)
        if read and read <= pixels and images.issuperset(node.output) and not ends(node):
            pixels.update(node.output)
            found.add(node.output[0])
    return found


def _exit(model: onnx.ModelProto, images: set[str], ends: Callable[[onnx.NodeProto], bool]) -> set[str]:
    wanted, found = {value.name for value in model.graph.output}, set()
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            found.add(node.output[0])
            if not ends(node):
                wanted.update(images.intersection(node.input))
    return found


def _keeps_image(model: onnx.ModelProto, node: onnx.NodeProto, weights: Mapping[str, list[int]]) -> bool:
    """Whether a convolution makes an image of an image: of as many channels, perhaps after a depth-to-space."""
    if node.op_type != "Conv" or node.input[1] not in weights:
        return False
    made, taken, *_ = weights[node.input[1]]
    taken *= attributes_of(node).get("group", 1)
    reader = only_reader(model, node.output[0])
    if reader is not None and reader.op_type == "DepthToSpace":
        made //= attributes_of(reader)["blocksize"] ** 2
    return bool(made == taken <= MOST_CHANNELS)

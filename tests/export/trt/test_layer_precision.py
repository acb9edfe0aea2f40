import json

import pytest

from drc_deploy.errors import VerificationError
from drc_deploy.export.trt.layer_precision import LayerPrecision, parse_inspection

INSPECTION = {
    "Layers": [
        {"Name": "entry", "LayerType": "Reformat", "Outputs": [{"Format/Datatype": "Row major linear FP32"}]},
        {"Name": "a", "LayerType": "CaskConvolution", "Outputs": [{"Format/Datatype": "Channel major FP16 format"}]},
        {"Name": "b", "ParameterType": "Convolution", "Outputs": [{"Format": "Linear", "Datatype": "Half"}]},
        {"Name": "c", "LayerType": "CaskConvolution", "Outputs": [{"Format/Datatype": "Row major linear FP32"}]},
        {"Name": "d", "LayerType": "CaskDeconvolution", "Outputs": [{"Format/Datatype": "Row major linear FP32"}]},
        {"Name": "exit", "LayerType": "PointWise", "Outputs": [{"Format/Datatype": "Row major UInt8 format"}]},
        {"Name": "empty", "LayerType": "NoOp", "Outputs": []},
        "only a name",
    ]
}


def test_layers_are_counted_by_what_the_inspector_says_of_their_output() -> None:
    found = parse_inspection(json.dumps(INSPECTION))
    assert found == LayerPrecision({"fp16": 2, "fp32": 3, "other": 2}, {"fp16": 2, "fp32": 1}, "engine")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"Layers": null}', '{"Layers": ["a", "b"]}', '{"Layers": []}'])
def test_an_empty_inspection_is_none(text: str) -> None:
    assert parse_inspection(text) is None


@pytest.mark.parametrize("convolutions", [{"fp32": 3}, {"fp16": 1, "fp32": 1}, {}])
def test_fp16_needs_more_than_half_of_the_convolutions(convolutions: dict[str, int]) -> None:
    with pytest.raises(VerificationError, match="convolutions of the fp16 plan"):
        LayerPrecision({}, convolutions, "engine").require("fp16", LayerPrecision({}, {"fp16": 3}, "graph"))


@pytest.mark.parametrize(
    ("reads", "gives", "kind"),
    [
        ("Int8", "Row major linear FP32", "int8"),
        ("Thirty-two wide channel vectorized row major INT8 format", "Half", "int8"),
        ("UInt8", "FP32", "fp32"),
        ("FP16", "INT8", "int8"),
        ("FP16", "UINT8", "other"),
    ],
)
def test_a_convolution_that_takes_int8_computes_in_it(reads: str, gives: str, kind: str) -> None:
    layer = {
        "LayerType": "CaskConvolution",
        "Inputs": [{"Format/Datatype": reads}],
        "Outputs": [{"Format/Datatype": gives}],
    }
    found = parse_inspection(json.dumps({"Layers": [layer]}))
    assert found is not None
    assert found.convolutions == {kind: 1}


def test_int8_needs_more_than_half_of_the_convolutions_that_the_graph_has_in_it() -> None:
    declared = LayerPrecision({}, {"int8": 4, "fp32": 20}, "graph")
    LayerPrecision({}, {"int8": 3, "fp32": 21}, "engine").require("int8", declared)
    with pytest.raises(VerificationError, match="only 2 of 4 convolutions of the int8 plan"):
        LayerPrecision({}, {"int8": 2, "fp32": 22}, "engine").require("int8", declared)

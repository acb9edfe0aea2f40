import json

from click.testing import CliRunner

from drc_deploy.cli.commands.doctor_command import command


def test_json_lists_the_machine_and_every_backend() -> None:
    result = CliRunner().invoke(command, ["--json"])
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    names = {backend["name"] for backend in answer["backends"]}
    assert {"NVIDIA driver", "torch on CPU", "ONNX Runtime on CPU", "TensorRT-RTX: build plans", "pycuda"} <= names
    assert answer["machine"]["logical_cores"] >= 1

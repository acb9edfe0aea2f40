"""A model for Triton of an ONNX file that was exported earlier; torch is not needed."""

from pathlib import Path

from drc_deploy.export.triton.model_folder import ModelFolder
from drc_deploy.export.trt.plan_from_onnx import read_exported_info


def model_from_onnx(onnx: Path, folder: ModelFolder) -> None:
    """Write ``folder`` with a copy of ``onnx``.

    Raises:
        ArtefactError: the file is not the uint8 variant of an export.
        OutputError: the folder is there and stays, cannot be written, or the disk is full.
    """
    read_exported_info(onnx)
    with folder.kept():
        folder.write(onnx)

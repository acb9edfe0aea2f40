"""Reads ``config.pbtxt`` by Triton's own description of it."""

from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2


def parsed(text: str) -> Any:
    """Return a ModelConfig; unknown fields and words are errors."""
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def read_config(model: Path) -> Any:
    """Return the configuration of the model in a folder."""
    return parsed((model / "config.pbtxt").read_text(encoding="utf-8"))


def parameters(config: Any) -> dict[str, str]:
    """Return the parameters of a ModelConfig."""
    return {key: value.string_value for key, value in config.parameters.items()}

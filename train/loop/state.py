"""Interrupted work on disk: any nested dict or list of tensors and plain values, as a safetensors file or its parts."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from drc_deploy import records
from drc_deploy.checkpoint import tensors_sha256
from drc_deploy.checkpoint_info import metadata_in
from drc_deploy.errors import ArtefactError, UsageError
from drc_deploy.files import check_writable
from drc_deploy.train.loop.parts import read_from_parts, remove_with_parts, write_in_parts

STATE_FOLDER = ".state"
"""Hidden folder next to the results, so that a search for checkpoints does not find unfinished work."""
_TENSOR = "$tensor"
_CONTENT, _SHA256 = "drc_deploy_state", "sha256"


def state_path_of(output: Path, stage: str, *, restart: bool) -> Path:
    """Return where the unfinished work on ``output`` is kept; with ``restart`` an earlier one is thrown away.

    Raises:
        OutputError: the folder of ``output`` is not writable, which is better known before a long run.
    """
    check_writable(output.parent)
    path = _path_of(output, stage)
    if restart:
        remove_with_parts(path)
    return path


def is_unfinished(output: Path, stage: str) -> bool:
    """Return whether there is unfinished work of a stage on ``output``."""
    return _path_of(output, stage).exists()


def _path_of(output: Path, stage: str) -> Path:
    return output.parent / STATE_FOLDER / f"{output.stem}.{stage}.safetensors"


def save_state(path: Path, tree: dict[str, Any]) -> None:
    """Write ``tree`` atomically; its leaves are tensors or JSON values, its keys strings or integers."""
    tensors: dict[str, Tensor] = {}
    skeleton = _take_tensors(tree, tensors)
    content = json.dumps({"schema": records.SCHEMA_VERSION, "tree": skeleton})
    metadata = {_CONTENT: content, _SHA256: tensors_sha256(tensors, content)}
    write_in_parts(path, save(tensors, metadata=metadata))


def _take_tensors(node: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, Tensor):
        name = str(len(tensors))
        tensors[name] = node.detach().cpu().clone().contiguous()
        return {_TENSOR: name}
    if isinstance(node, dict):
        # JSON has string keys only, and optimizers number their parameters: keep each key's own type.
        return {"$items": [[key, _take_tensors(value, tensors)] for key, value in node.items()]}
    if isinstance(node, list | tuple):
        return [_take_tensors(value, tensors) for value in node]
    return node


def load_state(path: Path, options: dict[str, Any], *, force: bool = False) -> dict[str, Any] | None:
    """Read what ``save_state`` wrote; None when there is no such file.

    Args:
        path: The state file.
        options: What the work is asked to do now. It must equal the ``options`` entry of the saved tree, since going
            on with others would mix two runs.
        force: Go on although they differ.

    Raises:
        ArtefactError: damaged, not whole, or of another program.
        UsageError: the saved work was started with other options; the message lists them.
    """
    if not path.exists():
        return None
    try:
        stored = read_from_parts(path)
        tensors = load(stored)
        metadata = metadata_in(stored)
        if metadata[_SHA256] != tensors_sha256(tensors, metadata[_CONTENT]):
            raise ValueError("its checksum is wrong")
        content = json.loads(metadata[_CONTENT])
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise ArtefactError(f"{path} is not a readable training state.", "Add --restart to begin anew.") from error
    if not isinstance(content, dict) or content.get("schema") != records.SCHEMA_VERSION:
        raise ArtefactError(f"{path} is a training state of another version.", "Add --restart to begin anew.")
    tree: dict[str, Any] = _put_tensors(content["tree"], tensors)
    if not force:
        _check_options(tree.get("options", {}), options, path)
    return tree


def _put_tensors(node: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, dict):
        if _TENSOR in node:
            return tensors[node[_TENSOR]]
        return {key: _put_tensors(value, tensors) for key, value in node["$items"]}
    if isinstance(node, list):
        return [_put_tensors(value, tensors) for value in node]
    return node


def _check_options(saved: dict[str, Any], asked: dict[str, Any], path: Path) -> None:
    differing = [
        f"{key} {saved.get(key)} then, {asked.get(key)} now"
        for key in sorted(saved.keys() | asked.keys())
        if saved.get(key) != asked.get(key)
    ]
    if differing:
        raise UsageError(
            f"{path} holds unfinished work with other options: {'; '.join(differing)}.",
            "Use the same options, add --restart to begin anew or, in training, --force to go on with the new ones.",
        )

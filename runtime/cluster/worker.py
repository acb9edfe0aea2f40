"""One process of a cluster that upscales: it holds an open network, and is given names of files."""

import dataclasses
import logging
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drc_deploy import __version__
from drc_deploy.errors import ArtefactError, InputError, MissingDependencyError
from drc_deploy.files import read_folders_again, sha256_of
from drc_deploy.images.blur import Blur
from drc_deploy.images.reading import limit_pixels
from drc_deploy.locate import SHIPPED
from drc_deploy.runtime.backends.contract import GpuMemory
from drc_deploy.runtime.cluster.notes import Notes
from drc_deploy.runtime.cluster.tasks import Asked, Done, Task, do
from drc_deploy.runtime.upscaler import Upscaler


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that the upscaler of a worker is made of."""

    engine: Path
    sha256: str
    """Of the engine: another file of that name would make other images."""
    how: Mapping[str, Any]
    """Arguments of ``Upscaler.open``."""
    blur: Blur | None
    max_pixels: int | None
    folder: Path
    """The working folder, which names of files begin in."""
    sharers: int = 1
    """Workers on one machine, which share the memory that is free."""
    version: str = __version__


@dataclass(frozen=True, slots=True)
class Opened:
    """What the network of a worker is, and where it computes."""

    scale: int
    device: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a task, and what a user should know."""

    done: Done
    notes: tuple[str, ...]
    """Sentences that a user sees."""
    recomputed: int
    """Tiles that overflowed in half precision."""
    gpu_memory: GpuMemory | None


class Worker:
    """Upscales files, one call after the other."""

    def __init__(self, recipe: Recipe) -> None:
        """Open nothing yet: an error would end the process instead of reaching the caller."""
        self._recipe = recipe
        self._upscaler: Upscaler | None = None
        self._asked: Asked | None = None
        self._notes = Notes()
        logging.getLogger("drc_deploy").addHandler(self._notes)

    def ready(self) -> Opened:
        """Open the network, unless it is open, and return what it is.

        Raises:
            DrcDeployError: this machine cannot run it, or is another one than was meant.
        """
        upscaler = self._open()
        return Opened(upscaler.info.scale, upscaler.device)

    def run(self, asked: Asked, task: Task, *, again: bool, replace: bool) -> Reply:
        """Do a task.

        Args:
            asked: the same in all calls: the first one, which remembers the records of folders, is kept.
            task: about files.
            again: it was begun by a worker that has ended, and may have left unfinished files.
            replace: write over results. They are of a worker that ended before it could report them.
        """
        upscaler, self._asked = self._open(), self._asked or asked
        asked, before = self._asked, upscaler.networks.rescue.count
        if again:
            read_folders_again()
        if replace:
            options = dataclasses.replace(asked.options, overwrite=True, skip_existing=False)
            asked = dataclasses.replace(asked, options=options)
        done = do(task, upscaler, asked)
        recomputed = upscaler.networks.rescue.count - before
        return Reply(done, self._notes.taken(), recomputed, upscaler.backend.gpu_memory)

    def _open(self) -> Upscaler:
        if self._upscaler is None:
            recipe = self._recipe
            enter(recipe.folder, recipe.version)
            if recipe.max_pixels is not None:
                limit_pixels(recipe.max_pixels)
            upscaler = Upscaler.open(_engine_here(recipe), **recipe.how)
            if recipe.how.get("max_memory") is None:
                upscaler.networks.share_memory(recipe.sharers)
            if recipe.blur:
                upscaler.use_blur(recipe.blur)
            self._upscaler = upscaler
        return self._upscaler


def enter(folder: Path, version: str) -> None:
    """Make relative names mean here what they mean where the command runs.

    Raises:
        InputError: this machine has no such folder.
        MissingDependencyError: it has another version of drc-deploy.
    """
    try:
        os.chdir(folder)
    except OSError as error:
        hint = "Run the command in a folder that all machines see."
        raise InputError(f"{platform.node()} has no folder {folder}.", hint) from error
    if version != __version__:
        here = f"{platform.node()} has drc-deploy {__version__}"
        raise MissingDependencyError(f"{here}, not {version}.", "Install the same on all machines.")


def _engine_here(recipe: Recipe) -> Path:
    """Return the engine on this machine; networks that ship with drc-deploy may lie elsewhere than at the caller's."""
    for path in (recipe.engine, SHIPPED / recipe.engine.name):
        if path.is_file() and sha256_of(path) == recipe.sha256:
            return path
    hint = "Put it where all machines see it."
    raise ArtefactError(f"{platform.node()} has no {recipe.engine}, or another file of that name.", hint)

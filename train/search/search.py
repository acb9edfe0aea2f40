"""Channel number search: how many channels does each layer need under the dual regression loss?

Searches that differ only in their bound run side by side over the same patches. On a GPU each has a stream of its own,
so that one computes while another waits for its host.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from drc_deploy.checkpoint import Checkpoint
from drc_deploy.errors import TrainingError
from drc_deploy.interruption import whole_step
from drc_deploy.progress import progress
from drc_deploy.torch_gpu import Lanes
from drc_deploy.train.data.patches import PatchSampler, PatchSource
from drc_deploy.train.data.photographs import Photographs
from drc_deploy.train.data.targets import FollowedPatches
from drc_deploy.train.loop.state import load_state, save_state
from drc_deploy.train.search.search_options import SearchOptions
from drc_deploy.train.search.searcher import Searcher

SAVE_EVERY_STEPS = 50
Halves = tuple[PatchSource, PatchSource]
"""Patches that train the weights, and patches that train the logits."""


@dataclass(frozen=True, slots=True)
class KeptSearch:
    """A search whose state is kept on disk."""

    searcher: Searcher
    state_path: Path
    """The caller deletes it once the result is on disk."""
    options: dict[str, Any]
    """All that must be the same when the search goes on, such as the checkpoint."""

    def go_on(self) -> None:
        """Take up an unfinished search, if there is one."""
        if state := load_state(self.state_path, self.options):
            self.searcher.restore(state["search"])

    def save(self) -> None:
        """Keep the state."""
        save_state(self.state_path, {"options": self.options, "search": self.searcher.state()})


def search_widths(searches: Sequence[KeptSearch], halves: Halves) -> None:
    """Bring searches to their ends, from where they were stopped.

    Args:
        searches: Of as many steps, over the same patches; their networks are changed.
        halves: Patches of one half of the data, which trains the weights, and of the other, which trains the logits.

    Raises:
        TrainingError: the loss became NaN.
    """
    for search in searches:
        search.go_on()
    try:
        _search(searches, halves)
    except KeyboardInterrupt:
        for search in searches:
            search.save()
        raise


def _search(searches: Sequence[KeptSearch], halves: Halves) -> None:
    searchers, lanes = [search.searcher for search in searches], Lanes(len(searches))
    steps = searchers[0].options.steps
    with progress("Searching widths", steps * len(searches), done=sum(each.step for each in searchers)) as bar:
        # One that is behind, since a kill came between two files of states, goes first.
        while (step := min(each.step for each in searchers)) < steps:
            turn = {number: search for number, search in enumerate(searches) if search.searcher.step == step}
            with whole_step():
                batches = [half.sample(step) for half in halves]
                losses = lanes.run({at: partial(search.searcher.update, *batches) for at, search in turn.items()})
            note = ""
            if (step + 1) % SAVE_EVERY_STEPS == 0 or step + 1 == steps:
                # The losses are looked at only here: reading one would stop a GPU in every step.
                for search, loss in zip(turn.values(), losses, strict=True):
                    search.searcher.check_finite(loss)
                    search.save()
                note = f"loss {', '.join(f'{float(loss):.3f}' for loss in losses)}"
            bar.advance(len(turn), note=note)


@contextmanager
def open_halves(photographs: Photographs, checkpoint: Checkpoint, options: SearchOptions) -> Iterator[Halves]:
    """Divide photographs into two halves, and close their readers after the block.

    Args:
        photographs: At least two.
        checkpoint: What is searched; its images are the targets if ``options`` say so.
        options: Say which patches.

    Raises:
        TrainingError: fewer than two photographs.
    """
    entries = photographs.entries
    if len(entries) < 2:
        raise TrainingError(
            f"a search needs at least 2 photographs, one for each half of the data, but there is {len(entries)}.",
            "Give a folder with more photographs.",
        )
    follow = checkpoint.build_network() if options.target_images == "self" else None
    with ExitStack() as stack:
        halves: list[PatchSource] = []
        for i in (0, 1):
            # Every other one: a folder sorted by name often has one kind of picture first.
            half, seed = dataclasses.replace(photographs, entries=entries[i::2]), options.seed + i
            patches = PatchSampler(
                half, scale=checkpoint.spec.scale, patch=options.patch, batch=options.batch, seed=seed
            )
            stack.callback(patches.close)
            halves.append(FollowedPatches(patches, follow) if follow else patches)
        yield halves[0], halves[1]

"""The training loop: the same for training from scratch and for fine-tuning a pruned network."""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from drc_deploy.errors import UsageError
from drc_deploy.files import write_text
from drc_deploy.interruption import held_signals, whole_step
from drc_deploy.progress import Progress, progress
from drc_deploy.train.data.patches import PatchSource
from drc_deploy.train.device import memory_checked
from drc_deploy.train.loop import distributed
from drc_deploy.train.loop.clock import Pace, TrainingClock
from drc_deploy.train.loop.journal import Journal
from drc_deploy.train.loop.run_folder import RunFolder
from drc_deploy.train.loop.state import load_state, save_state
from drc_deploy.train.loop.trainer import Trainer
from drc_deploy.train.loop.validation import Validator

REPORT_EVERY_STEPS = 20
"""Updates between two looks at the loss: each look makes the host wait for the device."""
CHECKS = 20
"""Validations and checkpoints of a run, unless there would be fewer updates than that between them."""


@dataclass(frozen=True, slots=True)
class Supervision:
    """How a run is watched and kept. Nothing here changes an update."""

    validator: Validator | None = None
    """Measures PSNR now and then; the best weights become the result. None: the last weights do."""
    check_every: int | None = None
    """Updates between two validations and checkpoints; None: a twentieth of the run, at least 20."""
    keep: int = 3
    """How many of the latest checkpoints stay in the run's folder."""
    keep_at: tuple[int, ...] = ()
    """Updates after which a checkpoint stays in the run's folder whatever ``keep`` is."""
    save_every_s: float = 60.0
    """Seconds between two savings of the state, so that a kill costs at most this much work."""
    config: str | None = None
    """TOML of all options, which is kept with the run."""
    restart: bool = False
    """Throw unfinished work away."""
    force: bool = False
    """Go on with unfinished work although its options were others."""


class TrainingRun:
    """One run: a trainer, its data, and the folder in which it is kept."""

    def __init__(self, trainer: Trainer, sampler: PatchSource, folder: RunFolder, supervision: Supervision) -> None:
        self.trainer, self.folder = trainer, folder
        self.best_step: int | None = None
        self.best_psnr: float | None = None
        """PSNR on the validation images of the weights in ``folder.best``, in dB."""
        self._sampler, self._supervision = sampler, supervision
        self._clock, self._pace = TrainingClock(trainer), Pace()
        self._length = trainer.options.steps or max(1, round(60 * (trainer.options.minutes or 0)))
        """Of the run, in steps or in seconds, from which the progress bar sees how long it still takes."""
        self._share = 0.0
        """Of the run that was over when the latest step began."""
        self._latest_psnr: float | None = None
        self._checked_step = 0
        self._options: dict[str, Any] = {}
        self._last_save, self._note = 0.0, ""

    def train(self, inputs: dict[str, Any]) -> None:
        """Train to the end, going on from the folder's state if it holds an unfinished run of the same options.

        The state is saved now and then and when the run is interrupted; it stays after the last step, so that the
        caller deletes it once the result is on disk.

        Args:
            inputs: What else must be the same when a run goes on, such as the data and the initial checkpoint.

        Raises:
            TrainingError: the loss or the weights became NaN or infinite, or memory ran out.
            UsageError: the folder holds a run with other options.
        """
        self._options = {**asdict(self.trainer.options), **inputs}
        self._resume()
        if self._supervision.config and distributed.is_main():
            write_text(self.folder.config, self._supervision.config)
        self._agree_on_share()
        title = "Training" if self.trainer.options.steps else "Training (seconds)"
        try:
            with self._open_journal() as journal, progress(title, self._length, done=self._done) as bar:
                self._train(journal, bar)
        except KeyboardInterrupt:
            with whole_step():
                self._save()
            raise

    def _open_journal(self) -> AbstractContextManager[Journal | None]:
        """Open the journal in the process that writes the files."""
        return Journal(self.folder.path, step=self.trainer.step) if distributed.is_main() else nullcontext()

    def _resume(self) -> None:
        # Only the first process knows the validation images, so that it alone checks the options.
        force = self._supervision.force or not distributed.is_main()
        state = load_state(self.folder.state, self._options, force=force)
        if state:
            try:
                self.trainer.restore(state["trainer"])
            except (RuntimeError, ValueError) as error:  # --force goes as far as the shapes of the weights
                raise UsageError(
                    f"{self.folder.state} is of another network.", "Add --restart to begin anew."
                ) from error
            self.best_step, self.best_psnr = state["best"]
            if self.best_step is not None:
                self.folder.check_best()
            self._checked_step, self._latest_psnr = state["checked_step"], self.best_psnr
        distributed.check_same_step(self.trainer.step)

    def _save(self) -> None:
        with self._clock.counting():  # it waits for the device
            self.trainer.check_finite()
        if distributed.is_main():
            content = {
                "options": self._options,
                "trainer": self.trainer.state(),
                "best": [self.best_step, self.best_psnr],
                "checked_step": self._checked_step,
            }
            save_state(self.folder.state, content)
        self._last_save = time.monotonic()

    def _train(self, journal: Journal | None, bar: Progress) -> None:
        several = distributed.world_size() > 1
        self._last_save = time.monotonic()
        # Several processes must stop at the same step: a signal is heard when all have heard of it.
        with held_signals() if several else nullcontext() as held:
            shown = self._done
            if self.trainer.step:
                self._tend(journal, due=self._is_due())  # what a signal cut off
            while self._agree_on_share() < 1:
                with nullcontext() if several else whole_step():
                    self._step()
                self._tend(journal, due=self._is_due())
                shown = self._show(bar, shown)
                if held and distributed.in_any_process(bool(held.heard)):
                    held.raise_first()
                    raise KeyboardInterrupt  # it was another process that heard one
            if self.trainer.step != self._checked_step:
                self._tend(journal, due=True)
            self._show(bar, shown)

    def _agree_on_share(self) -> float:
        """Return which share of the run is over; the time is that of the first process, in all of them."""
        options, trainer = self.trainer.options, self.trainer
        if options.minutes is not None:
            trainer.seconds = distributed.of_main(trainer.seconds)
        self._share = options.share_at(trainer.step, trainer.seconds)
        return self._share

    @property
    def _done(self) -> int:
        """What is over of ``_length``."""
        return int(self._share * self._length + 1e-6)

    def _show(self, bar: Progress, before: int) -> int:
        """Bring the progress bar from what it showed before to what is over; return that."""
        bar.advance(self._done - before, note=self._note)
        return self._done

    def _step(self) -> None:
        with memory_checked(), self._clock.counting():
            with self._clock.fetching():
                images = self._sampler.sample(self.trainer.step)
            self.trainer.update(images)
            if self.trainer.options.minutes is not None:
                self._pace.keep()

    def _is_due(self) -> bool:
        """Return whether it is time to validate."""
        step, steps, every = self.trainer.step, self.trainer.options.steps, self._supervision.check_every
        if every is None and steps is None:
            # Its number of updates is only known from its speed so far, and it has another validation at its end.
            updates = max(REPORT_EVERY_STEPS, (step - 1) / max(self._share, 1e-9) / CHECKS)
            return step - self._checked_step >= updates and self._share < 1 - 0.5 / CHECKS
        every = every or max(REPORT_EVERY_STEPS, (steps or 0) // CHECKS)
        return step % every == 0 and step != self._checked_step

    def _tend(self, journal: Journal | None, *, due: bool) -> None:
        """Validate if that is due; report and save then, and where it is time to."""
        if due or self.trainer.step % REPORT_EVERY_STEPS == 0:
            self._report(journal)
        if due:
            self._check(journal)
        if journal and self.trainer.step in self._supervision.keep_at:
            # Before the state, which must not go beyond a checkpoint that a kill kept from being written.
            self.trainer.check_finite()
            with self.trainer.final_weights():
                self.folder.keep_at(self.trainer)
        if due or time.monotonic() - self._last_save > self._supervision.save_every_s:
            self._save()

    def _report(self, journal: Journal | None) -> None:
        """Write the journal."""
        with self._clock.counting():
            losses = self.trainer.take_losses()
        if not losses:  # reported already, before a signal
            return
        rates = self._clock.take_rates()
        if journal:
            past = {"learning_rate": self.trainer.learning_rate, "seconds": self.trainer.seconds}
            journal.record(self.trainer.step, {**losses, **past, **rates})
        psnr = "" if self._latest_psnr is None else f", {self._latest_psnr:.2f} dB"
        self._note = f"loss {losses['loss']:.3f}{psnr}, {rates['images_per_second']:.0f} images/s"

    def _check(self, journal: Journal | None) -> None:
        """Validate, and keep a checkpoint."""
        self.trainer.check_finite()
        if journal:
            with self.trainer.final_weights(), memory_checked("Give smaller validation images."):
                psnr = self._validate(journal)
                self.folder.keep(self.trainer, psnr, keep=self._supervision.keep)
        distributed.wait_for_all()
        self._checked_step = self.trainer.step

    def _validate(self, journal: Journal) -> float | None:
        if not self._supervision.validator:
            return None
        result = self._supervision.validator.measure(self.trainer.network)
        journal.validated(self.trainer.step, result.psnr, result.pictures)
        self._latest_psnr = result.psnr
        if self.best_psnr is None or result.psnr > self.best_psnr:
            # The file first: a state must not name one that a signal kept from being written.
            self.folder.keep_best(self.trainer, result.psnr)
            self.best_psnr, self.best_step = result.psnr, self.trainer.step
        return result.psnr

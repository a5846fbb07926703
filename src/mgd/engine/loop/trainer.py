"""Trainer: the one loop. What is trained, and towards what, is the task's to know."""

import logging
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from mgd import ranks
from mgd.data.loading import Key
from mgd.engine.loop.batches import telling_of_too_few_images
from mgd.engine.loop.checkpoint import save_best, save_last
from mgd.engine.loop.gallery import begin_gallery
from mgd.engine.loop.meter import Pace
from mgd.engine.loop.opening import balance_lines
from mgd.engine.loop.optim import first_lr
from mgd.engine.loop.progress import Progress
from mgd.engine.loop.runlog import Reporter, RunLog, epoch_record
from mgd.engine.loop.state import Owner, RunState
from mgd.engine.loop.supply import Measured, Supply
from mgd.engine.loop.updates import Updates
from mgd.engine.loop.watch import LossWatch
from mgd.engine.options.config import RunConfig
from mgd.engine.runtime.devices import seed_step
from mgd.engine.runtime.signals import StoppedError, StopSignals
from mgd.engine.tasks.task import Task
from mgd.errors import InputError
from mgd.runfolder import epoch_columns, names

logger = logging.getLogger(__name__)


class Trainer:
    """Trains a task's student, epoch by epoch, and saves what a resumed run needs.

    Args:
        fabric: Launched.
        config: The run.
        pipeline: Its data.
        task: What is trained, on the device.
        reporter: Told what happens, on rank 0.
        home: The run folder, on every rank.
    """

    def __init__(
        self,
        fabric: Fabric,
        config: RunConfig,
        pipeline: Supply,
        task: Task,
        reporter: Reporter,
        home: Path,
    ):
        self.fabric, self.config, self.pipeline = fabric, config, pipeline
        self.task, self.reporter = task, reporter
        schedule = config.schedule
        self.num_steps = schedule.steps_of(pipeline.train_batches.num_batches)
        self.updates = Updates(fabric, task, schedule, self.num_steps)
        self.progress = Progress(
            schedule.start_epoch,
            schedule.keep_epoch == "last",
            schedule.patience,
            pipeline.scores.best,
        )
        # Several ranks would have to agree on a step to stop at; they go on from the last save.
        self.stop = StopSignals(active=fabric.world_size == 1)
        self.meter = pipeline.meter(task.terms).to(pipeline.device)
        last, scaled = home / names.LAST_CHECKPOINT, config.devices.precision == "fp16"
        self.watch = LossWatch(task, schedule.on_nan, last, scaled)
        named: dict[str, Owner] = {"optimizer": self.updates.optimizer}
        named["scheduler"] = self.updates  # the rates, once the optimizer has its state
        named |= {"meter": self.meter, "watch": self.watch, "data": pipeline}
        named["precision"] = fabric.strategy.precision
        self._is_balance_said = False
        self.state = RunState(config, [task, self.updates.weights, self.progress], named)

    def columns(self, teacher: Measured | None) -> list[str]:
        """Returns the columns of the run's summary; `teacher` is measured, where that can be."""
        return epoch_columns(
            ["loss", *self.meter.names],
            teacher=teacher is not None,
            matching=bool(self.task.columns()),
            skips=self.watch.mode == "skip",
            agreement=self.pipeline.is_label_free,
            scores=self.pipeline.scores,
        )

    def fit(self, log: RunLog | None, teacher: Measured | None) -> None:
        """Trains the epochs that are left; rank 0 has a log and writes."""
        if log is not None:
            self._note_changes(log)
        self.reporter.start(self.pipeline.num_valid)
        self._tell_best()
        with self.stop:
            for epoch in range(self.progress.epoch, self.config.schedule.total_epochs):
                if self.progress.is_over:
                    break
                self._run_epoch(epoch, log, teacher)
                if self.stop.received:
                    raise StoppedError(self.stop.received)
        if self.stopped_after is not None:
            self.reporter.message(
                f"stopped after epoch {self.stopped_after}: the {self.pipeline.scores.name} was "
                f"no better for {self.progress.waited} epochs (--patience)"
            )

    @property
    def stopped_after(self) -> int | None:
        """How many epochs were trained where `patience` ended the run before its last."""
        is_early = self.progress.epoch < self.config.schedule.total_epochs
        return self.progress.epoch if is_early and self.progress.is_over else None

    def _note_changes(self, log: RunLog) -> None:
        """Keeps the options that a resumed run had before, and tells which are others now."""
        place = self.progress.epoch, self.progress.step
        earlier = log.go_on(*place, self.state.earlier)
        if earlier is not None:
            logger.warning(
                "the run goes on with other options: %s; to keep its own, stop it and resume with "
                "-c %s",
                self.state.changes,
                earlier,
            )

    def _run_epoch(self, epoch: int, log: RunLog | None, teacher: Measured | None) -> None:
        start = time.perf_counter()
        if self.progress.step == 0:
            self._begin_epoch(log)
        means = self._train(log)
        self.watch.check_weights(epoch, self.num_steps)
        with self.updates.weights.in_place():
            scores = self.pipeline.measure(self.task)
        record = epoch_record(
            means,
            scores,
            teacher,
            epoch=epoch,
            lr=first_lr(epoch, self.config.schedule, self.num_steps),
            valid_is_agreement=1 if self.pipeline.is_label_free else None,
            skipped_steps=self.watch.skipped if self.watch.mode == "skip" else None,
            seconds=round(time.perf_counter() - start, 3),
            **self.task.columns(),
        )
        self.watch.reset()
        self.meter.reset()
        is_best = self.progress.end_epoch(scores)
        if log is not None:
            log.add_epoch(record)
            if is_best:
                save_best(self.state.state_dict(), self.task.metadata, log.path)
            # The last of all, so that a run that is killed before repeats the epoch.
            save_last(self.state.state_dict(), log.path)
        self._tell_best()
        self.reporter.end_epoch(record)

    def _tell_best(self) -> None:
        best = self.progress.best
        if best["epoch"] >= 0 and self.config.schedule.keep_epoch == "best":
            self.reporter.best(int(best["epoch"]), self.progress.best_score)

    def _begin_epoch(self, log: RunLog | None) -> None:
        self._seed(-1)
        matching = self.task.begin_epoch(self.progress.epoch)
        if matching is not None and log is not None:
            log.write_matching(matching)
        if self.progress.epoch == self.config.schedule.start_epoch:
            begin_gallery(self.task, self.pipeline, log.path if log is not None else None)

    def _train(self, log: RunLog | None) -> dict[str, float]:
        """Runs the rest of an epoch and returns its means."""
        progress, every = self.progress, self.config.output.checkpoint_every
        # Where images were removed since the checkpoint, an epoch has fewer steps.
        progress.step = min(progress.step, self.num_steps)
        per_step = self.config.schedule.grad_accum_steps
        plan = self.pipeline.train_batches
        plan.at(progress.epoch, min(progress.step * per_step, plan.num_batches))
        total = self.config.schedule.total_epochs
        self.task.train()
        self.reporter.start_epoch(progress.epoch, total, self.num_steps, progress.step)
        pace = Pace()
        loaded = zip(pace.timed(self.pipeline.batches()), plan, strict=True)
        while batches := list(islice(loaded, per_step)):
            numbers = range(progress.step * per_step, progress.step * per_step + len(batches))
            size = sum(map(plan.batch_size, numbers))
            self.task.begin_step(progress.epoch, progress.step)
            with telling_of_too_few_images():
                self._step(batches, size, sum(map(plan.labelled, numbers)) / size)
            progress.step += 1
            pace.images += size
            is_last = progress.step == self.num_steps
            if is_last or progress.step % self.config.output.print_freq == 0:
                means = self._means()
                self._say_balance(means)
                self.reporter.step(progress.step, {**means, **pace.row()})
            if every and progress.step % every == 0 and not is_last:
                self._save_inside_epoch(log)
            if self.stop.received and not is_last:
                self._save_inside_epoch(log)
                raise StoppedError(self.stop.received)
        if self.watch.skipped == self.num_steps:
            raise InputError(f"every step of epoch {progress.epoch} was skipped; lower --lr")
        self.task.end_epoch()
        # Each rank's BatchNorms saw its own images; from here on all have rank 0's statistics.
        ranks.share(self.task.trained.buffers())
        self.updates.weights.end_epoch()
        return {**self._means(), **pace.row()}

    def _step(self, batches: Sequence[tuple[Any, list[Key]]], size: int, labelled: float) -> None:
        """Takes one optimizer step; nothing here waits for the device.

        Args:
            batches: This rank's share of the batches of the step, each with what it shows.
            size: Their images, on all ranks.
            labelled: Share of these that have a label.
        """
        # What is drawn in a step is a function of its number, so a resume draws the same.
        self._seed(self.progress.step)
        self.watch.before_forward()
        self.updates.begin()
        found = []
        first = self.progress.step * self.config.schedule.grad_accum_steps
        for number, (batch, seen) in enumerate(batches):
            place = self.progress.epoch, first + number
            images, targets = self.pipeline.prepare(batch, place)
            with self.updates.batch(is_last=number == len(batches) - 1):
                output, terms = self.task.losses(images, targets, labelled, seen)
                values = torch.stack(list(terms.values()))
                self.updates.backward(values, size)
            found.append((values.detach(), output, targets))
        self.watch.check_reached()
        every_term = torch.cat([values for values, _, _ in found], dim=1)
        if self.watch.is_spoiled(self.progress.epoch, self.progress.step + 1, every_term):
            self.updates.skip()
            return
        self.updates.step()
        for values, output, targets in found:
            self.meter.update(values, output, targets)

    def _say_balance(self, means: dict[str, float]) -> None:
        """Says once what share of the loss each part is."""
        lines = balance_lines(means, self.task.label_terms) if not self._is_balance_said else ()
        for line in lines:
            self.reporter.message(line)
        self._is_balance_said = True

    def _seed(self, step: int) -> None:
        seed_step(self.config.schedule.seed, self.progress.epoch, step, self.fabric.global_rank)

    def _means(self) -> dict[str, float]:
        """Returns the epoch's means so far, over all ranks.

        Raises:
            InputError: If the loss is no number any more.
        """
        self.watch.check(self.progress.epoch)
        return self.meter.compute()

    def _save_inside_epoch(self, log: RunLog | None) -> None:
        """Saves on rank 0, which gets what all ranks added up.

        Raises:
            InputError: If the loss or the weights are no numbers: those are never saved.
        """
        self.meter.gather()
        self.task.gather()
        self.watch.check(self.progress.epoch)
        self.watch.check_weights(self.progress.epoch, self.progress.step)
        if log is not None:
            save_last(self.state.state_dict(), log.path)

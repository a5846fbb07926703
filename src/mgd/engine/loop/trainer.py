"""Trainer: one loop for base training and distillation."""

import math
import time
import warnings
from pathlib import Path

import torch
from lightning_fabric import Fabric

from mgd.data.loading import Batch
from mgd.engine.loop.metrics import Pace, Scores, TermMeter
from mgd.engine.loop.optim import build_optimizer, build_scheduler, lr_factor
from mgd.engine.loop.pipeline import Pipeline
from mgd.engine.loop.runlog import Reporter, Row, epoch_record, matching_columns, matching_record
from mgd.engine.loop.state import save_epoch, save_last
from mgd.engine.loop.watch import LossWatch
from mgd.engine.options.config import RunConfig
from mgd.engine.runtime.devices import seed_step, share
from mgd.engine.runtime.signals import StoppedError, StopSignals
from mgd.engine.tasks.objective import Objective
from mgd.engine.tasks.tracking import OnlineTracking
from mgd.errors import InputError
from mgd.method.distiller import Distiller
from mgd.method.rematch import RematchSchedule, solve_matching, update_matching
from mgd.runfolder import RunFolder, epoch_columns, names


class Trainer:
    """Trains a student, with or without a teacher.

    Args:
        fabric: Launched.
        config: The run.
        pipeline: Its data.
        objective: Its networks and losses, on the device.
        reporter: Told what happens, on rank 0.
        home: The run folder, on every rank.
    """

    def __init__(
        self,
        fabric: Fabric,
        config: RunConfig,
        pipeline: Pipeline,
        objective: Objective,
        reporter: Reporter,
        home: Path,
    ):
        self.fabric, self.config, self.pipeline = fabric, config, pipeline
        self.objective, self.reporter = objective, reporter
        self.distiller = objective.network if isinstance(objective.network, Distiller) else None
        steps = pipeline.train_batches.num_batches
        optimizer = build_optimizer(objective, config.schedule)
        self.scheduler = build_scheduler(optimizer, config.schedule, steps)
        self.model, self.optimizer = fabric.setup(objective, optimizer)
        is_matched = config.distillation.distiller == "mgd"
        self.rematch = RematchSchedule(config.distillation.mgd_update_freq if is_matched else 0)
        self.tracking = OnlineTracking(config, self.distiller, self.rematch, steps)
        self.epoch, self.step = config.schedule.start_epoch, 0
        # Several ranks would have to agree on a step to stop at; they go on from the last save.
        self.stop = StopSignals(active=fabric.world_size == 1)
        self.best: dict[str, float] = {"epoch": -1, "top1": -1.0, "top5": -1.0}
        self.matching = {"matching_cost": math.nan, "matching_churn": math.nan}
        self.meter = TermMeter(objective.weights, pipeline.device)
        last, scaled = home / names.LAST_CHECKPOINT, config.devices.precision == "fp16"
        self.watch = LossWatch(objective, config.schedule.on_nan, last, scaled)

    @property
    def columns(self) -> list[str]:
        """Columns of the run's summary."""
        losses = [name for name in self.meter.names if name.startswith("loss")]
        has_teacher, skips = self.distiller is not None, self.watch.mode == "skip"
        matching = self._has_matching()
        return epoch_columns(losses, teacher=has_teacher, matching=matching, skips=skips)

    def _has_matching(self) -> bool:
        return self.distiller is not None and any(self.distiller.matched_points())

    def fit(self, folder: RunFolder | None, teacher: Scores | None) -> None:
        """Trains the epochs that are left; rank 0 has a folder and writes."""
        with self.stop:
            for epoch in range(self.epoch, self.config.schedule.total_epochs):
                self._run_epoch(epoch, folder, teacher)
                if self.stop.received:
                    raise StoppedError(self.stop.received)

    def _run_epoch(self, epoch: int, folder: RunFolder | None, teacher: Scores | None) -> None:
        schedule = self.config.schedule
        start = time.perf_counter()
        self.epoch = epoch
        if self.step == 0:
            self._update_matching(folder)
        # Of the epoch's first step, also where a resumed run starts later in it.
        steps = self.pipeline.train_batches.num_batches
        lr = schedule.learning_rate * lr_factor(epoch * steps, schedule, steps)
        means = self._train(folder)
        self.watch.check_weights(epoch, steps)
        scores = self.pipeline.score(self.objective.student, self.pipeline.valid)
        others = dict(self.matching) if self._has_matching() else {}
        if self.watch.mode == "skip":
            others["skipped_steps"] = self.watch.skipped
        others |= {"epoch": epoch, "lr": lr, "seconds": round(time.perf_counter() - start, 3)}
        record = epoch_record(means, scores, teacher, **others)
        self.epoch, self.step, self.watch.skipped = epoch + 1, 0, 0
        self.meter.reset()
        is_best = scores.top1 > self.best["top1"]
        if is_best:
            self.best = {"epoch": epoch, "top1": scores.top1, "top5": scores.top5}
        if folder is not None:
            save_epoch(self, folder, record, is_best)
        self.reporter.end_epoch(record)

    def _train(self, folder: RunFolder | None) -> Row:
        """Runs the rest of an epoch and returns its means."""
        batches = self.pipeline.train_batches.at(self.epoch, self.step)
        schedule, every = self.config.schedule, self.config.output.checkpoint_every
        steps = batches.num_batches
        self.model.train()
        self.reporter.start_epoch(self.epoch, schedule.total_epochs, steps, self.step)
        pace = Pace()
        for batch in pace.timed(self.pipeline.batches(self.pipeline.train)):
            size = batches.batch_size(self.step)
            self.tracking.before_step(self.epoch, self.step)
            self._step(batch, size)
            self.step += 1
            pace.images += size
            if self.step % self.config.output.print_freq == 0 or self.step == steps:
                self.reporter.step(self.step, {**self._means(), **pace.row()})
            if every and self.step % every == 0 and self.step < steps:
                self.meter.gather()
                self.tracking.gather()
                self.save(folder)
            if self.stop.received and self.step < steps:
                self.save(folder)
                raise StoppedError(self.stop.received)
        if self.watch.skipped == steps:
            raise InputError(f"every step of epoch {self.epoch} was skipped; lower --lr")
        # DDP gives every rank the BatchNorm statistics of rank 0 before each step, not after.
        self.tracking.end_epoch()
        share(self.objective.buffers())
        return {**self._means(), **pace.row()}

    def _step(self, batch: Batch, size: int) -> None:
        """Takes one optimizer step; nothing here waits for the device."""
        # What is drawn in a step is a function of its number, so a resume draws the same.
        seed_step(self.config.schedule.seed, self.epoch, self.step, self.fabric.global_rank)
        images, labels = self.pipeline.prepare(batch)
        self.watch.before_forward()
        self.optimizer.zero_grad(set_to_none=True)  # before the forward, which needs the memory
        logits, terms = self.model(images, labels)
        values = torch.stack(list(terms.values()))
        # Ranks may have one image more or less; DDP averages over ranks, this over images.
        loss = values.sum() * (self.fabric.world_size / size)
        self.fabric.backward(loss)
        if self.watch.is_spoiled(self.epoch, self.step + 1, values):
            with warnings.catch_warnings():  # torch minds a schedule without an update
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
                self.scheduler.step()
            return
        self.optimizer.step()
        self.scheduler.step()
        self.meter.update(values, logits, labels)

    def _means(self) -> Row:
        """Returns the epoch's means so far, over all ranks.

        Raises:
            InputError: If the loss is no number any more.
        """
        self.watch.check(self.epoch)
        return self.meter.compute()

    def _update_matching(self, folder: RunFolder | None) -> None:
        if self.distiller is None or not self.distiller.needs_images:
            return
        is_matched = self.distiller.matching_is_solved
        if is_matched and not self.rematch.due(self.epoch):
            return
        seed_step(self.config.schedule.seed, self.epoch, -1, self.fabric.global_rank)
        if is_matched and self.tracking.has_tracked(self.epoch):
            reports = solve_matching(self.distiller)
        else:
            images, most = self.pipeline.tracked_images(), self.config.distillation.mgd_images
            reports = update_matching(self.distiller, images, most)
        if reports:  # a baseline has none, and has renewed its margins
            self.matching = matching_columns(reports)
            if folder is not None:
                folder.write_matching(matching_record(self.distiller, reports, self.epoch))

    def save(self, folder: RunFolder | None) -> None:
        """Writes `last.ckpt` inside an epoch, on the rank that has the folder.

        Raises:
            InputError: If the loss or the weights are no numbers: those are never saved.
        """
        self.watch.check(self.epoch)
        self.watch.check_weights(self.epoch, self.step)
        if folder is not None:
            save_last(self, folder)

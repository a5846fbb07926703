"""Trainer: one loop for base training and distillation."""

import math
import time

import torch
from lightning_fabric import Fabric

from mgd.data.loading import Batch, mix
from mgd.distiller import Distiller
from mgd.engine.checkpoint import State, save_checkpoint, save_student
from mgd.engine.config import RunConfig
from mgd.engine.devices import share
from mgd.engine.metrics import Scores, TermMeter
from mgd.engine.objective import Objective
from mgd.engine.optim import build_optimizer, build_scheduler, lr_factor
from mgd.engine.pipeline import Pipeline
from mgd.engine.runlog import Reporter, Row, RunFolder
from mgd.engine.signals import StoppedError, StopSignals
from mgd.errors import InputError
from mgd.rematch import RematchSchedule, update_matching


class Trainer:
    """Trains a student, with or without a teacher.

    Args:
        fabric: Launched.
        config: The run.
        pipeline: Its data.
        objective: Its networks and losses, on the device.
        reporter: Told what happens, on rank 0.
    """

    def __init__(
        self,
        fabric: Fabric,
        config: RunConfig,
        pipeline: Pipeline,
        objective: Objective,
        reporter: Reporter,
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
        self.epoch, self.step = config.schedule.start_epoch, 0
        # Several ranks would have to agree on a step to stop at; they go on from the last save.
        self.stop = StopSignals(active=fabric.world_size == 1)
        self.best: dict[str, float] = {"epoch": -1, "top1": -1.0, "top5": -1.0}
        self.matching = {"matching_cost": math.nan, "matching_churn": math.nan}
        self.meter = TermMeter(objective.weights, pipeline.device)

    @property
    def columns(self) -> list[str]:
        """Columns of `summary.csv`; the loss is the sum of its terms."""
        is_matched = self.distiller is not None and any(self.distiller.matched_points())
        matching = list(self.matching) if is_matched else []
        teacher = ["teacher_top1", "teacher_top5"] if self.distiller else []
        valid = ["valid_loss", "valid_top1", "valid_top5"]
        times = ["images_per_s", "data_wait", "seconds"]
        return ["epoch", "lr", *self.meter.names, *valid, *teacher, *matching, *times]

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
        if self.step == 0 and (self.rematch.due(epoch) or not self._is_matched()):
            self._update_matching(folder)
        # Of the epoch's first step, also where a resumed run starts later in it.
        steps = self.pipeline.train_batches.num_batches
        lr = schedule.learning_rate * lr_factor(epoch * steps, schedule, steps)
        row = {"epoch": epoch, "lr": lr, **self._train(folder)}
        scores = self.pipeline.score(self.objective.student, self.pipeline.valid)
        row |= {
            "valid_loss": scores.loss,
            "valid_top1": scores.top1,
            "valid_top5": scores.top5,
            "teacher_top1": teacher.top1 if teacher else None,
            "teacher_top5": teacher.top5 if teacher else None,
            **self.matching,
            "seconds": round(time.perf_counter() - start, 3),
        }
        self.epoch, self.step = epoch + 1, 0
        self.meter.reset()
        is_best = scores.top1 > self.best["top1"]
        if is_best:
            self.best = {"epoch": epoch, "top1": scores.top1, "top5": scores.top5}
        if folder is not None:
            self._write(folder, row, is_best)
        self.reporter.end_epoch(row)

    def _train(self, folder: RunFolder | None) -> Row:
        """Runs the rest of an epoch and returns its means."""
        batches = self.pipeline.train_batches.at(self.epoch, self.step)
        schedule, every = self.config.schedule, self.config.output.checkpoint_every
        steps = batches.num_batches
        self.model.train()
        self.reporter.start_epoch(self.epoch, schedule.total_epochs, steps, self.step)
        begin = previous = time.perf_counter()
        waited, seen = 0.0, 0
        for batch in self.pipeline.batches(self.pipeline.train):
            waited += time.perf_counter() - previous
            size = batches.batch_size(self.step)
            self._step(batch, size)
            self.step += 1
            seen += size
            if self.step % self.config.output.print_freq == 0 or self.step == steps:
                speed = seen / (time.perf_counter() - begin)
                self.reporter.step(self.step, {**self._means(folder), "images_per_s": speed})
            if every and self.step % every == 0 and self.step < steps:
                self._means(folder)  # no checkpoint of a loss that is no number
                self.meter.gather()
                self.save(folder)
            if self.stop.received and self.step < steps:
                self.save(folder)
                raise StoppedError(self.stop.received)
            previous = time.perf_counter()
        # DDP gives every rank the BatchNorm statistics of rank 0 before each step, not after.
        share(self.objective.buffers())
        seconds = max(time.perf_counter() - begin, 1e-9)
        return {
            **self._means(folder),
            "images_per_s": round(seen / seconds, 1),
            "data_wait": round(waited / seconds, 4),
        }

    def _step(self, batch: Batch, size: int) -> None:
        """Takes one optimizer step; nothing here waits for the device."""
        # What is drawn in a step is a function of its number, so a resume draws the same.
        self._seed(self.step)
        images, labels = self.pipeline.prepare(batch)
        logits, terms = self.model(images, labels)
        values = torch.stack(list(terms.values()))
        # Ranks may have one image more or less; DDP averages over ranks, this over images.
        loss = values.sum() * (self.fabric.world_size / size)
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.optimizer.step()
        self.scheduler.step()
        self.meter.update(values, logits, labels)

    def _means(self, folder: RunFolder | None) -> Row:
        """Returns the epoch's means so far, over all ranks.

        Raises:
            InputError: If the loss is no number any more, naming the last checkpoint.
        """
        row = self.meter.compute()
        if not math.isfinite(row["loss"]):
            wrong = [name for name, value in row.items() if not math.isfinite(value)]
            last = folder.path / "last.ckpt" if folder is not None else None
            way = "start again"
            if last is not None and last.exists():
                way = f"go on from '{last}' with --resume auto"
            raise InputError(
                f"the loss is not finite at epoch {self.epoch}, step {self.step} "
                f"({', '.join(wrong[1:])}); lower --lr or raise --loss-factor, then {way}"
            )
        return row

    def _is_matched(self) -> bool:
        return self.distiller is None or self.distiller.matching_is_solved

    def _update_matching(self, folder: RunFolder | None) -> None:
        if self.distiller is None or not self.distiller.needs_images:
            return
        self._seed(-1)
        loader = self.pipeline.matching
        images = (self.pipeline.prepare(batch)[0] for batch in self.pipeline.batches(loader))
        reports = update_matching(self.distiller, images, self.config.distillation.mgd_images)
        if not reports:  # a baseline, which renewed its margins
            return
        self.matching = {
            "matching_cost": sum(report.cost_after for report in reports) / len(reports),
            "matching_churn": sum(report.churn for report in reports) / len(reports),
        }
        if folder is not None:
            folder.write_matching(self.distiller, reports, self.epoch)

    def _seed(self, step: int) -> None:
        seed = mix(mix(self.config.schedule.seed, self.epoch, step), self.fabric.global_rank, 0)
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(seed)

    def _write(self, folder: RunFolder, row: Row, is_best: bool) -> None:
        folder.add_row(row)
        if is_best:
            save_checkpoint(self.state(), folder.path / "best.ckpt")
            save_student(self.objective.student, folder.path / "student.safetensors")
        self.save(folder)

    def save(self, folder: RunFolder | None) -> None:
        """Writes `last.ckpt`, on the rank that has the folder."""
        if folder is not None:
            save_checkpoint(self.state(), folder.path / "last.ckpt", keep_previous=True)

    def state(self) -> State:
        """Returns all that a resumed run needs, as tensors and primitives."""
        return {
            "student": self.objective.student.state_dict(),
            "distiller": self.distiller.points.state_dict() if self.distiller else {},
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "rng": torch.get_rng_state(),
            "epoch": self.epoch,
            "step": self.step,
            "best": self.best,
            "sums": self.meter.sums,
            "matching": self.matching,
            "config": self.config.flat(),
        }

    def load(self, state: State) -> None:
        """Goes back to a state.

        Raises:
            InputError: If it belongs to other networks or another method.
        """
        config = self.config.flat()
        for name in ("arch", "teacher", "distiller", "mgd-reducer", "mgd-with-kd", "batch-size"):
            if state["config"].get(name) != config[name]:
                raise InputError(
                    f"the checkpoint was made with --{name} {state['config'].get(name)}, not "
                    f"{config[name]}; give the same, or another --experiment"
                )
        try:
            self.objective.student.load_state_dict(state["student"])
            if self.distiller is not None:
                self.distiller.points.load_state_dict(state["distiller"])
                self.distiller.matching_is_solved = True
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise InputError(
                "the checkpoint does not fit: its data had other classes, or its --points were "
                "others; give the options of its args.yaml, or another --experiment"
            ) from error
        self.scheduler.load_state_dict(state["scheduler"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        torch.set_rng_state(state["rng"])
        self.epoch, self.step, self.best = state["epoch"], state["step"], state["best"]
        self.matching = state["matching"]
        if self.fabric.is_global_zero:  # whose sums are those of all ranks
            self.meter.sums.copy_(state["sums"])

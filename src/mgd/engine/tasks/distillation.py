"""Distillation: a student learns from labels and from a teacher."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from statistics import fmean
from typing import Any

from lightning_fabric import Fabric
from lightning_fabric.strategies.dp import DataParallelStrategy
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # torch has no public name for all of them

from mgd.data.loading import Key
from mgd.engine.options.config import RunConfig
from mgd.engine.runtime.figures import number
from mgd.engine.runtime.sharding import shard_teacher
from mgd.engine.tasks import gallery
from mgd.engine.tasks.classifiers import Classifiers
from mgd.engine.tasks.kept_teacher import KeptTeacher
from mgd.engine.tasks.label_term import LabelTerm
from mgd.engine.tasks.task import ClassifierTask, Item, Losses, Task
from mgd.engine.tasks.tracking import OnlineTracking
from mgd.method.distiller import Distiller
from mgd.method.learner import Distilled, Guidance
from mgd.method.matcher import MatchingReport
from mgd.method.rematch import RematchSchedule, update_matching
from mgd.method.running import RunningSums
from mgd.runfolder import Gallery, MatchingRecord, PointMatching

Images = Callable[[], Iterable[Any]]


class TaughtTask(Task):
    """Trains a student under a teacher, and keeps the matching up to date.

    What the labels teach, a subclass adds.

    Args:
        distiller: Both networks, joined, on their device.
        config: The run.
        num_steps: Of an epoch.
        images: Gives training images for an update of the matching, this rank's share.
    """

    def __init__(self, distiller: Distiller, config: RunConfig, num_steps: int, images: Images):
        self.distiller = distiller
        self.terms = (*self.label_terms, *distiller.term_weights)
        options = config.distillation
        self._images, self._most = images, options.mgd_images
        is_solved_again = distiller.points.solved_again
        self._rematch = RematchSchedule(options.mgd_update_freq if is_solved_again else 0)
        self.tracking = OnlineTracking(config, distiller, self._rematch, num_steps)
        self._last_update = {"matching_cost": math.nan, "matching_churn": math.nan}
        self._shards_teacher = config.devices.shards_teacher
        self.kept: KeptTeacher | None = None
        """Asks the teacher in its place and remembers what it answers; `None` where it runs in
        every step."""
        self.setup(None)

    def _is_matching(self) -> bool:
        return any(self.distiller.points.matched())

    @property
    def trained(self) -> nn.Module:
        """The student, and what the points train beside it; not the teacher."""
        return self.distiller.learner

    def setup(self, fabric: Fabric | None) -> None:
        """Wraps the learner alone, so that DDP knows of no teacher.

        DataParallel cuts every batch for its devices, so it gets teacher and student together.
        Where the teacher is to be sharded, both are on the CPU until now.
        """
        self._fabric = fabric
        self._whole: nn.Module | None = None
        self._learner: nn.Module = self.distiller.learner
        if fabric is None:
            return
        if self._shards_teacher:
            shard_teacher(self.distiller.frozen_teacher, fabric.device)
        if isinstance(fabric.strategy, DataParallelStrategy):
            self._whole = fabric.setup_module(self.distiller)
        else:
            self._learner = fabric.setup_module(self.distiller.learner)

    @property
    def wrapped(self) -> nn.Module:
        """The wrapped learner; with DataParallel the wrapped distiller."""
        return self._learner if self._whole is None else self._whole

    def _distil(self, images: Tensor, labels: Tensor | None, seen: Sequence[Key]) -> Distilled:
        if self._whole is not None:
            return self._whole(images, labels)  # type: ignore[no-any-return]  # a module's call
        guidance = self._guidance(images, seen)
        return self._learner(images, labels, guidance)  # type: ignore[no-any-return]  # a module's

    def _guidance(self, images: Any, seen: Sequence[Key], weights: Any = None) -> Guidance:
        """Runs the teacher, in the precision of the run, which the learner enters by itself."""
        with nullcontext() if self._fabric is None else self._fabric.autocast():
            if self.kept is None:
                return self.distiller.guide(images, self.tracking.is_on, weights=weights)
            return self.kept.guide(images, seen, self.tracking.is_on)

    def begin_epoch(self, epoch: int) -> MatchingRecord | None:
        """Updates the matching where it is due, from tracked steps or from a pass over images."""
        is_matched = self.distiller.is_matched
        if not self.distiller.needs_images or (is_matched and not self._rematch.due(epoch)):
            return None
        if is_matched and self.tracking.has_tracked(epoch):
            reports = self.distiller.solve_matching()
        else:
            reports = update_matching(self.distiller, self._images(), self._most)
        if not reports:  # a baseline, which has renewed its margins
            return None
        self._last_update = {
            "matching_cost": fmean(report.cost_after for report in reports),
            "matching_churn": fmean(report.churn for report in reports),
        }
        return self._record(reports, epoch)

    def _record(self, reports: list[MatchingReport], epoch: int) -> MatchingRecord:
        points = [
            PointMatching(
                teacher=str(point.pair.teacher),
                student=str(point.pair.student),
                teacher_channels=point.pair.teacher_shape[0],
                first_cost=report.cost_before,
                matching=point.matcher.matching.tolist(),
                **asdict(report),
            )
            for point, report in zip(self.distiller.points.matched(), reports, strict=True)
        ]
        return MatchingRecord(epoch=epoch, points=points)

    def begin_step(self, epoch: int, step: int) -> None:
        """Decides whether this step's features are tracked."""
        self.tracking.begin_step(epoch, step)

    def gather(self) -> None:
        """Moves what was tracked on all ranks to rank 0, and saves the teacher's answers."""
        self.tracking.gather()
        self._save_answers()

    def end_epoch(self) -> None:
        """Gives every rank what was tracked on all ranks, and the teacher's answers."""
        self.tracking.end_epoch()
        self._save_answers()

    def _save_answers(self) -> None:
        if self.kept is not None:
            self.kept.save()

    def columns(self) -> dict[str, float]:
        """Returns the means over the points of the last update; none for a baseline."""
        return dict(self._last_update) if self._is_matching() else {}

    def in_step(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yields items; a sharded teacher runs on until every rank is through with its own."""
        return self.distiller.frozen_teacher.in_step(items)

    def volatile_buffers(self) -> Iterator[Tensor]:
        """Yields the student's buffers, the norms' of the points, and what is being tracked."""
        yield from self.student.buffers()
        for module in self.distiller.points.modules():
            if isinstance(module, _BatchNorm):
                yield from module.buffers(recurse=False)
            elif isinstance(module, RunningSums) and self.tracking.is_on:
                yield from module.statistics()

    def state_dict(self) -> dict[str, Any]:
        """Returns the student, the points with their matchings, and the last update's figures."""
        return {
            **self._student_state(),
            "distiller": self.distiller.points.state_dict(),
            "matching": dict(self._last_update),
            "tracking": self.tracking.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes back to a state; matchings and margins come from it."""
        super().load_state_dict(state)
        self.distiller.points.load_state_dict(state["distiller"])
        self.distiller.mark_matched()
        self._last_update = {name: number(state["matching"], name) for name in self._last_update}
        self.tracking.load_state_dict(state["tracking"])

    def train(self) -> None:
        """Puts what is trained into training mode; the teacher never is."""
        self.distiller.train()

    def close(self) -> None:
        """Takes the taps out of both networks, and lets go of the teacher's answers."""
        self.distiller.close()
        if self.kept is not None:
            self.kept.close()


class DistillationTask(TaughtTask, ClassifierTask):
    """Trains a student that names the class of an image under a teacher.

    Args:
        distiller: Both networks, joined, on their device.
        classifiers: The same networks, with their classes and views.
        config: The run.
        num_steps: Of an epoch.
        images: Gives training images for an update of the matching, this rank's share.
        class_weights: Of the cross-entropy, (K,) on the device; `None` for equal ones.
    """

    def __init__(
        self,
        distiller: Distiller,
        classifiers: Classifiers,
        config: RunConfig,
        num_steps: int,
        images: Images,
        class_weights: Tensor | None = None,
    ):
        self.classifiers = classifiers
        weight, smoothing = config.distillation.label_weight, config.labels.label_smoothing
        self._label_term = LabelTerm(weight, smoothing, class_weights)
        super().__init__(distiller, config, num_steps, images)

    def losses(
        self, images: Tensor, targets: Tensor, labelled: float = 1.0, seen: Sequence[Key] = ()
    ) -> Losses:
        """Returns the logits, the cross-entropy and the teacher's terms; see `Task.losses`."""
        # Shares of mixed labels are for the cross-entropy alone; "dkd" is refused with them.
        classes = None if targets.is_floating_point() else targets
        distilled = self._distil(images, classes, seen)
        logits = distilled.logits
        terms = {"ce": self._label_term.loss(logits, targets, labelled), **distilled.terms}
        return logits.detach(), terms

    def begin_gallery(self, images: Tensor, labels: Sequence[str]) -> Gallery | None:
        """Returns the maps of some channels before training; None with learned convolutions."""
        return gallery.begin(self.distiller, images, labels)

    def finish_gallery(self, images: Tensor, begun: Gallery) -> Gallery:
        """Adds what these channels were taught, and their maps now."""
        return gallery.finish(self.distiller, images, begun)

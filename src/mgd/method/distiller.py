"""Distiller: a teacher, a student and the points where one follows the other."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from mgd.errors import InputError
from mgd.inside import PairLike, TappedModel, evaluating
from mgd.method.choices import choose_pairs, make_points
from mgd.method.learner import Distilled, Guidance, Learner, LogitTerm
from mgd.method.matcher import MatchingReport
from mgd.method.point import DistillationPoints
from mgd.method.teacher import FrozenTeacher
from mgd.method.weights import feature_weights

logger = logging.getLogger(__name__)


class Distiller(nn.Module):
    """Runs teacher and student on a batch and returns the loss that the teacher adds.

    Matching Guided Distillation (Yue et al., ECCV 2020, https://arxiv.org/abs/2008.09958; not
    Masked Generative Distillation). No adapter is trained, only the student and one BatchNorm per
    point. The networks are used as they are. The teacher is frozen: no gradients, always in eval
    mode, not in `state_dict()`. A whole training loss is
    `F.cross_entropy(out.output, labels, ignore_index=-1) + out.loss.mean()`.

    The first matching comes from `example` alone. Call `mgd.update_matching` with training images
    before the first epoch, and again every epoch or two.

    Args:
        teacher: Trained network, on the device of `example`.
        student: Network to train, another object; may be pretrained.
        example: A batch of images as the networks take them, (B, C, H, W), at the training size.
        points: "auto" finds them; or pairs `(teacher path, student path)`, see `mgd.Tap.parse`;
            or `PointPair`s; from the input to the output of the networks. With `()` the teacher
            guides the logits alone.
        reducer: A name in `mgd.REDUCERS`: how matched teacher channels become one target.
        feature_weight: Weight of the features' loss: of its weighted mean per element, at least 0.
            "auto" is 20, and less below 4 000 elements; see `mgd.method.weights`. The best value
            differs between data sets by a factor of 10: try 3, 10, 30 on validation images.
        kd_weight: Weight of the loss on the logits, at least 0. 0 leaves it out; then the outputs
            of the networks may be anything.
        kd_temperature: Divides the logits, above 0.
        kd: The loss on the logits, a name in `mgd.LOGIT_LOSSES`; "dkd" needs `labels`.
        dkd_beta: As in `mgd.decoupled_kd`.
        loss_factor: The paper's way to weigh, in place of `feature_weight`: divides the features'
            loss, a sum over elements. 1e4 is published for ImageNet at 224 px.
        solver: A name in `mgd.SOLVERS`, as in `mgd.assign`.
        method: "mgd", or a baseline at the same points: "ofd", "fitnet"; see
            `mgd.method.baselines`.
        teacher_precision: Type of the teacher's arithmetic, such as `torch.bfloat16`. `None` is
            that of the autocast around the forward.

    Raises:
        InputError: For a name, weight, point or example that cannot be used, for one network given
            twice, and for a distiller with nothing to teach.

    Example:
        >>> import torch, mgd
        >>> teacher = mgd.create_model("cifar_resnet8", num_classes=10)
        >>> student = mgd.create_model("cifar_resnet8_x0_5", num_classes=10)
        >>> images, labels = torch.randn(4, 3, 32, 32), torch.tensor([3, 1, 4, 1])
        >>> with mgd.Distiller(teacher, student, images) as distiller:
        ...     reports = mgd.update_matching(distiller, [images])
        ...     out = distiller(images, labels)
        >>> out.loss.shape, list(out.terms)
        (torch.Size([4]), ['mgd_1', 'mgd_2', 'mgd_3'])
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        example: Tensor,
        points: Literal["auto"] | Sequence[PairLike] = "auto",
        reducer: str = "amp",
        *,
        feature_weight: float | Literal["auto"] = "auto",
        kd_weight: float = 0.0,
        kd_temperature: float = 1.5,
        kd: str = "kd",
        dkd_beta: float = 8.0,
        loss_factor: float | None = None,
        solver: str = "scipy",
        method: str = "mgd",
        teacher_precision: torch.dtype | None = None,
    ):
        super().__init__()
        logit_term = LogitTerm(kd, kd_temperature, kd_weight, dkd_beta)
        logit_term.check()
        if teacher is student:
            raise InputError("teacher and student are one network; give two, or a copy of one")
        pairs = choose_pairs(teacher, student, example, points)
        if not pairs and not kd_weight:
            raise InputError("nothing to teach: there are no `points` and `kd_weight` is 0")
        made = make_points(pairs, method, reducer, solver).to(example.device)
        elements = [point.num_elements for point in made]
        weights = feature_weights(elements, feature_weight, loss_factor)
        tapped = [pair.teacher for pair in pairs], [pair.student for pair in pairs]
        self._example_size = example.shape[-2:]
        self.frozen_teacher = FrozenTeacher(teacher, tapped[0], teacher_precision)
        self.learner = Learner(TappedModel(student, tapped[1]), made, method, weights, logit_term)
        self._is_matched = not self.needs_images
        self.train(student.training)
        try:
            self._start(example)
        except Exception:
            self.close()
            raise

    def _start(self, example: Tensor) -> None:
        """Checks both networks on the example, and takes a first matching and margins from it."""
        teacher, student = self.frozen_teacher.tapped, self.learner.tapped_student
        with evaluating(self), torch.no_grad():
            teacher.check(example)
            student.check(example)
            outputs = teacher(example)[1], student(example)[1]
        if self.learner.logit_term.weight:
            _check_logits(*outputs)
        self.observe(example)
        for point in self.points.matched():
            point.matcher.solve()
            point.warn_of_dead_channels()
        self.update_margins()
        for pair in self.points.pairs:
            if pair.norm is not None:
                self.frozen_teacher.when_loaded(pair.norm, self.update_margins)
        self.register_load_state_dict_post_hook(_expect_no_teacher)

    @property
    def teacher(self) -> nn.Module:
        """The teacher, the same object that was given."""
        return self.frozen_teacher.network

    @property
    def student(self) -> nn.Module:
        """The student, the same object that was given."""
        return self.learner.tapped_student.network

    @property
    def points(self) -> DistillationPoints:
        """The points, resolved; they print as a table. Each has a `pair` and a `margin`.

        With method "mgd" each has a `matcher` and a `norm` as well.
        """
        return self.learner.points

    @property
    def term_weights(self) -> dict[str, float]:
        """The weight of each of `Distilled.terms`."""
        return dict(self.learner.term_weights)

    @property
    def needs_images(self) -> bool:
        """Whether there is a matching or a margin to be taken from training images."""
        return any(True for _ in self.points.running_sums())

    @property
    def is_matched(self) -> bool:
        """Whether matchings and margins come from training images, or from a loaded state."""
        return self._is_matched

    def mark_matched(self) -> None:
        """Says that matchings and margins were set from elsewhere, and the example's are gone."""
        self._is_matched = True

    def forward(
        self,
        images: Float[Tensor, "batch colours height width"],
        labels: Int64[Tensor, " batch"] | None = None,
        track: bool = False,
    ) -> Distilled:
        """Runs both networks; see `Distilled`. Losses are float32, one value per image.

        Under DDP wrap `distiller.learner` alone, and call
        `wrapped(images, labels, distiller.guide(images))` in place of this.

        Args:
            images: (B, C, H, W), as the networks take them.
            labels: Classes (B,), -1 for an image without one. Only kd="dkd" needs them.
            track: Also add the batch to the statistics of the points, for `solve_matching`.

        Raises:
            InputError: If the loss on the logits needs labels and there are none.
        """
        distilled: Distilled = self.learner(images, labels, self.guide(images, track))
        return distilled

    @torch.no_grad()
    def guide(
        self, images: Float[Tensor, "batch colours height width"], track: bool = False
    ) -> Guidance:
        """Runs the teacher and returns what the learner needs of it.

        Args:
            images: (B, C, H, W), as the teacher takes them.
            track: Whether the learner is to add the batch to the statistics of the points.
        """
        if self.training and not self._is_matched:
            logger.warning(
                "the matching comes from `example` alone; call mgd.update_matching first"
            )
            self.mark_matched()  # said once
        features, output = self.frozen_teacher(images)
        if track or images.shape[-2:] != self._example_size:
            return Guidance(list(features), output, track)
        kept = [point.keep(maps) for point, maps in zip(self.points, features, strict=True)]
        return Guidance(kept, output)

    @torch.no_grad()
    def observe(self, images: Float[Tensor, "batch colours height width"]) -> None:
        """Adds a batch to every point's statistics, both networks in eval mode."""
        with evaluating(self):
            teacher, _ = self.frozen_teacher(images)
            student, _ = self.learner.tapped_student(images)
        self.learner.observe(student, teacher)

    @torch.no_grad()
    def solve_matching(self) -> list[MatchingReport]:
        """Solves every point's matching on the statistics that are there; renews the margins.

        The statistics come from `observe`, or from forwards with `track=True`, and must be the
        same on all ranks. `mgd.update_matching` does all of it with a loader.

        Returns:
            One report per matched point, in order; none for a baseline.

        Raises:
            RuntimeError: If there are no statistics.
        """
        start = time.perf_counter()
        self.mark_matched()
        self.update_margins()
        reports = []
        for point in self.points.matched():
            report = point.matcher.rematch()
            reports.append(
                replace(report, point=point.pair.name, seconds=time.perf_counter() - start)
            )
        return reports

    def update_margins(self) -> None:
        """Recomputes every margin: from the teacher's BatchNorm, or else from the features seen.

        This happens by itself when teacher weights are loaded and when a matching is solved.

        Raises:
            InputError: If the norm that a point names is no BatchNorm.
        """
        for point in self.points:
            if point.running_margin is not None:
                point.margin.copy_(point.running_margin.compute())
                continue
            assert point.pair.norm is not None
            point.margin.copy_(self.frozen_teacher.margin(point.pair.norm))

    def close(self) -> None:
        """Gives both networks back: no hooks, and the teacher's modes and gradients as before.

        The distiller cannot be used afterwards.
        """
        self.frozen_teacher.close()
        self.learner.tapped_student.close()

    def __enter__(self) -> "Distiller":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _check_logits(teacher: Any, student: Any) -> None:
    shapes = [
        tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in (teacher, student)
    ]
    if shapes[0] != shapes[1] or not isinstance(student, Tensor) or student.dim() != 2:
        raise InputError(
            f"teacher output {shapes[0]} and student output {shapes[1]} are no logits (B, K) of "
            "the same classes; set `kd_weight` to 0 to distil features alone"
        )


def _expect_no_teacher(module: Distiller, incompatible: Any) -> None:
    module.mark_matched()
    incompatible.missing_keys[:] = [
        key for key in incompatible.missing_keys if "frozen_teacher." not in key
    ]

"""Distiller: a teacher, a student and the points where one follows the other."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mgd.errors import InputError
from mgd.inside import (
    Images,
    PairLike,
    TappedModel,
    check_one_canvas,
    evaluating,
    logits_of,
)
from mgd.method.choices import PointMaker, choose_pairs, make_points, point_shares
from mgd.method.comparison import Comparison
from mgd.method.given import check_apart, make_preprocess
from mgd.method.learner import Distilled, Guidance, Learner
from mgd.method.logit_term import LogitTerm
from mgd.method.matcher import MatchingReport
from mgd.method.paired import Paired
from mgd.method.positions import Weights, place_weights
from mgd.method.teacher import FrozenTeacher
from mgd.method.weights import feature_weights
from mgd.views import View

logger = logging.getLogger(__name__)


class Distiller(Paired):
    """Runs teacher and student on a batch and returns the loss that the teacher adds.

    Matching Guided Distillation (Yue et al., ECCV 2020, https://arxiv.org/abs/2008.09958; not
    Masked Generative Distillation). No adapter is trained, only the student and one BatchNorm per
    point, unless `method` says so. The networks are used as they are. The teacher is frozen: no
    gradients, always in eval mode, not in `state_dict()`. A whole training loss is
    `F.cross_entropy(out.output, labels, ignore_index=-1) + out.loss.mean()`.

    The first matching comes from `example` alone. Call `mgd.update_matching` with training images
    before the first epoch, and again every epoch or two.

    Args:
        teacher: Trained network, on the device of `example`.
        student: Network to train, with weights of its own; may be pretrained.
        example: A batch of images as in training, (B, C, H, W), or a list of images (C, H, W) as
            detectors take them; see `teacher_view`.
        points: "auto" finds them; or pairs `(teacher path, student path)`, see `mgd.Tap.parse`;
            or `PointPair`s; from the input to the output of the networks. With `()` the teacher
            guides the logits alone.
        reducer: A name in `mgd.REDUCERS`: how matched teacher channels become one target.
        feature_weight: Weight of the features' loss: of its weighted mean per element, at least 0.
            "auto" is 20, with method "mgd-adapter" 60, and less for few elements; see
            `mgd.method.weights`. The best value differs between data sets by a factor of 10: try
            3, 10, 30 on validation images.
        kd_weight: Weight of the loss on the logits, at least 0. 0 leaves it out; then the outputs
            of the networks may be anything.
        kd_temperature: Divides the logits, above 0.
        kd: The loss on the logits, a name in `mgd.LOGIT_LOSSES`; "dkd" needs `labels`.
        dkd_beta: As in `mgd.decoupled_kd`.
        loss_factor: The paper's way to weigh, in place of `feature_weight`: divides the features'
            loss, a sum over elements. 1e4 is published for ImageNet at 224 px.
        solver: A name in `mgd.SOLVERS`, as in `mgd.assign`.
        method: "mgd", without an adapter; "mgd-adapter", with learned convolutions that start as
            the matching; or a baseline at the same points: "ofd", "fitnet". See docs/method.md.
            Or a subclass of `DistillationPoint`, or a function that makes one of a `PointPair`:
            a loss of your own at the same points, see docs/own-loss.md.
        teacher_precision: Type of the teacher's arithmetic, such as `torch.bfloat16`. `None` is
            that of the autocast around the forward.
        teacher_view, student_view: How each network sees an image. Then all images that the
            distiller is given are RGB crops that are not normalised, uint8 or from 0 to 1, and
            each network gets them in its own size, colours, mean and deviation. A network without
            a view gets the images as they are.
        teacher_output: Turns what the teacher returns into logits (B, K) of the student's classes,
            for `kd_weight`; `None` is `mgd.logits_of`.
        norm: The norm of the student at each point: "batch", or "group" for batches of few images.
        point_loss: What a point compares, a name in `mgd.POINT_LOSSES`; "auto" is "partial_l2",
            and "l2" where no ReLU lies behind, as at a pyramid's levels.
        point_temperature: Of the loss "softmax", above 0.

    Raises:
        InputError: For a name, weight, point or example that cannot be used, for networks that
            share weights, and for a distiller with nothing to teach.

    Example:
        >>> import torch, mgd
        >>> teacher = mgd.create_model("cifar_resnet8", num_classes=10)
        >>> student = mgd.create_model("cifar_resnet8_x0_5", num_classes=10)
        >>> views = {"teacher_view": mgd.View(size=48), "student_view": mgd.View(size=32)}
        >>> images = torch.randint(256, (4, 3, 48, 48), dtype=torch.uint8)
        >>> with mgd.Distiller(teacher, student, images, **views) as distiller:
        ...     reports = mgd.update_matching(distiller, [images])
        ...     out = distiller(images, labels=torch.tensor([3, 1, 4, 1]))
        >>> out.loss.shape, list(out.terms)
        (torch.Size([4]), ['mgd_1', 'mgd_2', 'mgd_3'])
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        example: Tensor | Sequence[Tensor],
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
        method: str | PointMaker = "mgd",
        teacher_precision: torch.dtype | None = None,
        teacher_view: View | None = None,
        student_view: View | None = None,
        teacher_output: Callable[[Any], Tensor] | None = None,
        norm: str = "batch",
        point_loss: str = "auto",
        point_temperature: float = 4.0,
    ):
        super().__init__()
        logit_term = LogitTerm(kd, kd_temperature, kd_weight, dkd_beta, teacher_output or logits_of)
        logit_term.check()
        check_one_canvas(teacher, student)
        to_teacher = make_preprocess("teacher", teacher_view, example)
        to_student = make_preprocess("student", student_view, example)
        seen = to_teacher(example), to_student(example)
        pairs = choose_pairs(teacher, student, seen, points)
        check_apart(teacher, student)  # now that lazy layers have weights
        if not pairs and not kd_weight:
            raise InputError("nothing to teach: there are no `points` and `kd_weight` is 0")
        comparison = Comparison(norm, point_loss, point_temperature)
        made = make_points(pairs, method, reducer, solver, comparison).to(example[0].device)
        elements = [point.num_elements for point in made]
        name = method if isinstance(method, str) else "own"
        weights = feature_weights(elements, feature_weight, loss_factor, name, point_shares(pairs))
        taps, tapped = [pair.teacher for pair in pairs], [pair.student for pair in pairs]
        spare = example[:1]
        self.frozen_teacher = FrozenTeacher(teacher, taps, to_teacher, spare, teacher_precision)
        self.learner = Learner(
            TappedModel(student, tapped), to_student, made, name, weights, logit_term
        )
        self._example_size = self.canvas(example[:1]).size
        self._is_matched = not self.needs_images
        self.train(student.training)
        try:
            self._start(example, *seen)
        except BaseException:  # an interrupt as well
            self.close()
            raise

    def _start(self, example: Images, by_teacher: Images, by_student: Images) -> None:
        """Checks both networks on the example, and takes a first matching and margins from it."""
        with evaluating(self):
            theirs = self.frozen_teacher.tapped.check(by_teacher)
            ours = self.learner.tapped_student.check(by_student)
        if self.learner.logit_term.weight:
            self.learner.logit_term.logits(ours, theirs)
        self.observe(example)
        for point in self.points.matched():
            point.start()
            point.warn_of_dead_channels()
        self.update_margins()
        self._follow_teacher()
        self.register_load_state_dict_post_hook(_expect_no_teacher)

    def _follow_teacher(self) -> None:
        for pair in self.points.pairs:
            if pair.norm is not None:
                self.frozen_teacher.when_loaded(pair.norm, self.update_margins)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._follow_teacher()  # the hooks of a copy do nothing

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
        images: Images,
        labels: Tensor | None = None,
        track: bool = False,
        targets: Any = None,
        weights: Weights = None,
    ) -> Distilled:
        """Runs both networks; see `Distilled`. Losses are float32, one value per image.

        Under DDP wrap `distiller.learner` alone, and call
        `wrapped(images, labels, distiller.guide(images))` in place of this.

        Args:
            images: Like `example`: as the networks take them, or crops for views.
            labels: Classes (B,), -1 for an image without one. Only kd="dkd" needs them.
            track: Also add the batch to the statistics of the points, for `solve_matching`.
            targets: What the student is called with after the images, as a detector in training;
                its losses are then `Distilled.output`.
            weights: How much each place counts, (B, h, w) of any h and w, at least 0: over the
                images, with the padding that a detector adds. Or a function that makes them of
                the teacher's output and the `Canvas`, as `mgd.score_weights`.

        Raises:
            InputError: If the loss on the logits needs labels and there are none, or if outputs
                or labels are not those of single classes, or for weights that cannot be used.
        """
        guidance = self.guide(images, track, weights)
        distilled: Distilled = self.learner(images, labels, guidance, targets)
        return distilled

    @torch.no_grad()
    def guide(self, images: Images, track: bool = False, weights: Weights = None) -> Guidance:
        """Runs the teacher and returns what the learner needs of it.

        Args:
            images, track, weights: As `forward` takes them.
        """
        if self.training and not self._is_matched:
            logger.warning(
                "the matching comes from `example` alone; call mgd.update_matching first"
            )
            self.mark_matched()  # said once
        is_asked = callable(weights) or self.learner.logit_term.weight > 0
        features, output = self.frozen_teacher(images, whole=is_asked)
        canvas = self.canvas(images)
        counted = place_weights(weights, output, canvas, images[0].device)
        if track or canvas.size != self._example_size:
            return Guidance(list(features), output, track, *counted)
        kept = [point.keep(maps) for point, maps in zip(self.points, features, strict=True)]
        return Guidance(kept, output, track, *counted)

    @torch.no_grad()
    def observe(self, images: Images) -> None:
        """Adds a batch to every point's statistics, both networks in eval mode."""
        with evaluating(self):
            teacher, _ = self.frozen_teacher(images, whole=False)
            student = self.learner.read_student(images)
        canvas = self.canvas(images)
        mask, _ = place_weights(None, None, canvas, images[0].device)
        self.learner.observe(student, teacher, mask)

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
        is_first = not self._is_matched
        self.mark_matched()
        self.update_margins()
        reports = [point.rematch(is_first) for point in self.points.matched()]
        return [replace(report, seconds=time.perf_counter() - start) for report in reports]

    def update_margins(self) -> None:
        """Recomputes every margin: from the teacher's BatchNorm, or else from the features seen.

        This happens by itself when teacher weights are loaded and when a matching is solved.

        Raises:
            InputError: If the norm that a point names is no BatchNorm.
        """
        for point in self.points:
            point.renew_margin(self.frozen_teacher.margin)

    def __enter__(self) -> "Distiller":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _expect_no_teacher(module: Distiller, incompatible: Any) -> None:
    module.mark_matched()
    incompatible.missing_keys[:] = [
        key for key in incompatible.missing_keys if "frozen_teacher." not in key
    ]

"""DistillationPoint: where one student layer follows one teacher layer, and how."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple, overload

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mgd.errors import TapError
from mgd.inside import PointList, PointPair, Tap
from mgd.method.comparison import PARTIAL_L2, Comparison
from mgd.method.matcher import ChannelMatcher, MatchingReport
from mgd.method.running import RunningMargin, RunningSums
from mgd.tensors.positions import resize_weights
from mgd.tensors.reducers import Reducer

logger = logging.getLogger(__name__)


class Target(NamedTuple):
    """Teacher features that are reduced already, as opposed to those a tap reads."""

    maps: Float[Tensor, "batch student height width"]


class DistillationPoint(nn.Module):
    """Two tapped layers, brought to one size; a subclass says how far apart they are.

    Args:
        pair: A resolved `PointPair`, with shapes.
        comparison: The norm in front of the loss, and the loss.
    """

    margin: Tensor
    """(T,), of the teacher's channels."""

    def __init__(self, pair: PointPair, comparison: Comparison = PARTIAL_L2):
        super().__init__()
        self.pair, self.comparison = pair, comparison
        self.register_buffer("margin", torch.zeros(pair.teacher_shape[0]))
        # FitNet does without margins; its statistics stay, since checkpoints of 0.3.0 have them.
        is_measured = pair.norm is None and (comparison.needs_margin or not pair.linear)
        self.running_margin = RunningMargin(pair.teacher_shape[0]) if is_measured else None

    def forward(
        self,
        student: Float[Tensor, "batch student rows columns"],
        teacher: Float[Tensor, "batch teacher height width"] | Target,
        weights: Float[Tensor, "batch _ _"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """Returns the loss of each image: the weighted mean per element times `num_elements`.

        For images of the size that the point was made with, and without weights, that is the sum
        over channels and positions.

        Args:
            student: As the student's tap reads it.
            teacher: As the teacher's tap reads it, or as `keep` returns it.
            weights: How much each place of the image counts, at least 0, of any height and width.

        Raises:
            TapError: If a tap's channels are not those of the start.
        """
        assert not isinstance(teacher, Target)  # only a subclass makes one
        return self.per_element(self.loss, *self.align(student, teacher), weights)

    def per_element(
        self,
        loss: Callable[[Tensor, Tensor, Tensor | None], Tensor],
        student: Tensor,
        teacher: Tensor,
        weights: Tensor | None,
    ) -> Tensor:
        """Turns a loss (B,), a weighted sum over positions, into that of the point's own size."""
        (height, width), own = student.shape[2:], math.prod(self.pair.size)
        if weights is None:
            total = loss(student, teacher, None)
            return total if height * width == own else total * (own / (height * width))
        weights = resize_weights(weights.float(), (height, width))
        # An image without any weight has no loss.
        counted = weights.sum((1, 2)).clamp_min(torch.finfo(torch.float32).tiny)
        return loss(student, teacher, weights) * (own / counted)

    def keep(self, teacher: Tensor) -> Tensor | Target:
        """Returns all that the loss needs of the teacher's features, in as little memory as it can.

        Only for images of the size that the point was made with.
        """
        return teacher

    def loss(self, student: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
        """Returns the loss (B,) of features of one height and width, a sum over positions."""
        raise NotImplementedError

    @property
    def num_channels(self) -> int:
        """Channels that the loss compares: the student's S, or the teacher's T."""
        raise NotImplementedError

    @property
    def num_elements(self) -> int:
        """Number of values of one image that the loss compares."""
        height, width = self.pair.size
        return self.num_channels * height * width

    def observe(self, student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> None:
        """Adds a batch, as the taps read it, to the statistics.

        Args:
            student, teacher: Features of the same images.
            mask: 1 where an image is and 0 where padding is, (B, rows, columns). A position of
                which less than half is image does not count.
        """
        student, teacher = self.align(student, teacher)
        if mask is not None:
            inside = (resize_weights(mask, (student.shape[2], student.shape[3])) >= 0.5)[:, None]
            student, teacher = student * inside, teacher * inside
        self.observe_aligned(student, teacher)
        if self.running_margin is not None:
            self.running_margin.update(teacher)

    def observe_aligned(self, student: Tensor, teacher: Tensor) -> None:
        """Adds what a subclass keeps, if it keeps anything."""

    def renew_margin(self, margin_of: Callable[[str], Tensor]) -> None:
        """Recomputes the margin, from the teacher's BatchNorm or else from the features seen.

        Args:
            margin_of: Gives the margins (T,) of the teacher's BatchNorm at a path.
        """
        if self.running_margin is not None:
            self.margin.copy_(self.running_margin.compute())
        elif self.pair.norm is not None:
            self.margin.copy_(margin_of(self.pair.norm))

    def running_sums(self) -> Iterator[RunningSums]:
        """Yields the statistics; a point without any needs no images before training."""
        yield from (module for module in self.modules() if isinstance(module, RunningSums))

    def align(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Brings both to one height and width, by average pooling of the larger.

        Raises:
            TapError: If a tap's channels are not those of the start.
        """
        check_channels(self.pair.student, student, self.pair.student_shape[0])
        check_channels(self.pair.teacher, teacher, self.pair.teacher_shape[0])
        size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
        return pool(student, size), pool(teacher, size)


class MatchedPoint(DistillationPoint):
    """A point whose channels are matched; a subclass says what the matching is used for.

    Args:
        pair: A resolved `PointPair`, with shapes.
        reducer: Decides how many teacher channels a student channel gets.
        solver: A name in `mgd.SOLVERS`, as in `mgd.assign`.
        comparison: As in `DistillationPoint`.
    """

    solved_again = True
    """Whether a matching that is solved again during training changes the loss."""

    def __init__(
        self,
        pair: PointPair,
        reducer: Reducer,
        solver: str = "scipy",
        comparison: Comparison = PARTIAL_L2,
    ):
        super().__init__(pair, comparison)
        student_channels, teacher_channels = pair.student_shape[0], pair.teacher_shape[0]
        self.matcher = ChannelMatcher(student_channels, teacher_channels, reducer, solver)

    def start(self) -> None:
        """Solves a first matching, on this rank alone, from the statistics that are there."""
        self.matcher.solve()

    def rematch(self, is_first: bool) -> MatchingReport:
        """Solves the matching for all ranks and says what changed.

        Args:
            is_first: Whether there was none from training images before.
        """
        return replace(self.matcher.rematch(), point=self.pair.name)

    def observe_aligned(self, student: Tensor, teacher: Tensor) -> None:
        """Adds to the channel distances; the norm takes no part in them."""
        self.matcher.update(student, teacher)

    def warn_of_dead_channels(self) -> None:
        """Logs how many channels of each tap are zero on every image seen."""
        student, teacher = self.matcher.dead_channels()
        for side, tap, dead in (
            ("teacher", self.pair.teacher, teacher),
            ("student", self.pair.student, student),
        ):
            if dead.any():
                logger.warning(
                    "%s tap '%s': %d of %d channels are zero on every image of the example",
                    *(side, tap, int(dead.sum()), len(dead)),
                )


class DistillationPoints(nn.ModuleList):
    """The points of a distiller, from the input to the output of the networks; prints as a table.

    Args:
        points: Any `DistillationPoint`s.
    """

    def __init__(self, points: Iterable[DistillationPoint]):
        super().__init__(points)

    @property
    def pairs(self) -> PointList:
        """The pairs of taps, which `mgd.points_to_plain` can save."""
        return PointList(point.pair for point in self)

    def __iter__(self) -> Iterator[DistillationPoint]:
        for point in super().__iter__():
            assert isinstance(point, DistillationPoint)
            yield point

    @overload
    def __getitem__(self, index: slice) -> "DistillationPoints": ...
    @overload
    def __getitem__(self, index: int) -> DistillationPoint: ...
    def __getitem__(self, index: int | slice) -> "DistillationPoint | DistillationPoints":
        """Returns one point, or a part of the list."""
        return super().__getitem__(index)  # type: ignore[return-value]  # torch says Module

    def matched(self) -> Iterator[MatchedPoint]:
        """Yields the points that have a matching: all but those of a baseline."""
        return (point for point in self if isinstance(point, MatchedPoint))

    @property
    def solved_again(self) -> bool:
        """Whether a matching that is solved again during training changes the loss.

        Without it there may still be statistics to take once: for a first matching, or margins.
        """
        return any(point.solved_again for point in self.matched())

    def running_sums(self) -> Iterator[RunningSums]:
        """Yields the statistics of all points."""
        for point in self:
            yield from point.running_sums()

    def __str__(self) -> str:
        return str(self.pairs)


def check_channels(tap: Tap, features: Tensor, channels: int) -> None:
    """Checks that a tap reads as many channels as at the start.

    Raises:
        TapError: If it reads others.
    """
    if features.shape[1] != channels:
        raise TapError(
            f"tap '{tap}' reads {features.shape[1]} channels, but read {channels} when "
            "the distiller was made; make a new one for a changed network"
        )


def pool(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Brings maps to a smaller height and width, by the mean."""
    return features if features.shape[2:] == size else F.adaptive_avg_pool2d(features, size)

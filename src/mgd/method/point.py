"""DistillationPoint: where one student layer follows one teacher layer, and how."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, overload

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mgd.errors import TapError
from mgd.inside import PointList, PointPair, Tap
from mgd.method.matcher import ChannelMatcher
from mgd.method.running import RunningMargin, RunningSums
from mgd.tensors.losses import partial_l2
from mgd.tensors.reducers import Reducer

logger = logging.getLogger(__name__)


class Target(NamedTuple):
    """Teacher features that are reduced already, as opposed to those a tap reads."""

    maps: Float[Tensor, "batch student height width"]


class DistillationPoint(nn.Module):
    """Two tapped layers, brought to one size; a subclass says how far apart they are.

    Args:
        pair: A resolved `PointPair`, with shapes.
    """

    margin: Tensor
    """(T,), of the teacher's channels."""

    def __init__(self, pair: PointPair):
        super().__init__()
        self.pair = pair
        self.register_buffer("margin", torch.zeros(pair.teacher_shape[0]))
        self.running_margin = RunningMargin(pair.teacher_shape[0]) if pair.norm is None else None

    def forward(
        self,
        student: Float[Tensor, "batch student rows columns"],
        teacher: Float[Tensor, "batch teacher height width"] | Target,
    ) -> Float[Tensor, " batch"]:
        """Returns the loss of each image, summed over channels and positions.

        Args:
            student: As the student's tap reads it.
            teacher: As the teacher's tap reads it, or as `keep` returns it.

        Raises:
            TapError: If a tap's channels are not those of the start.
        """
        assert not isinstance(teacher, Target)  # only a subclass makes one
        return self.loss(*self.align(student, teacher))

    def keep(self, teacher: Tensor) -> Tensor | Target:
        """Returns all that the loss needs of the teacher's features, in as little memory as it can.

        Only for images of the size that the point was made with.
        """
        return teacher

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Returns the loss (B,) of features of one height and width."""
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

    def observe(self, student: Tensor, teacher: Tensor) -> None:
        """Adds a batch, as the taps read it, to the statistics."""
        student, teacher = self.align(student, teacher)
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
        _check_channels(self.pair.student, student, self.pair.student_shape[0])
        _check_channels(self.pair.teacher, teacher, self.pair.teacher_shape[0])
        size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
        return _pool(student, size), _pool(teacher, size)


class MatchedPoint(DistillationPoint):
    """Matching Guided Distillation: one target per student channel, made of matched channels.

    The teacher's features are pooled to the student's size first and reduced then, at every image
    size: this is also how the channel distances are measured.

    Args:
        pair: A resolved `PointPair`, with shapes.
        reducer: How matched teacher channels become one target.
        solver: A name in `mgd.SOLVERS`, as in `mgd.assign`.
    """

    def __init__(self, pair: PointPair, reducer: Reducer, solver: str = "scipy"):
        super().__init__(pair)
        student_channels, teacher_channels = pair.student_shape[0], pair.teacher_shape[0]
        self.matcher = ChannelMatcher(student_channels, teacher_channels, reducer, solver)
        self.norm = nn.BatchNorm2d(student_channels)

    def forward(
        self,
        student: Float[Tensor, "batch student rows columns"],
        teacher: Float[Tensor, "batch teacher height width"] | Target,
    ) -> Float[Tensor, " batch"]:
        """Returns the partial L2 of each image; see `DistillationPoint.forward`."""
        if not isinstance(teacher, Target):
            return super().forward(student, teacher)
        _check_channels(self.pair.student, student, self.pair.student_shape[0])
        size = (teacher.maps.shape[2], teacher.maps.shape[3])
        if student.shape[2] < size[0] or student.shape[3] < size[1]:
            raise TapError(
                f"tap '{self.pair.student}' reads maps of {tuple(student.shape[2:])}, but larger "
                "ones from other images of the same size; make a new distiller"
            )
        return self._partial_l2(_pool(student, size), teacher.maps)

    def keep(self, teacher: Tensor) -> Tensor | Target:
        """Reduces the features, to a G-th of them, where the student is not smaller."""
        if self.pair.size != self.pair.teacher_shape[1:]:
            return teacher  # to be pooled first, which takes the student's features
        _check_channels(self.pair.teacher, teacher, self.pair.teacher_shape[0])
        return Target(self.matcher.select(teacher))

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Returns the partial L2 (B,) of the normalised student to its targets."""
        return self._partial_l2(student, self.matcher.select(teacher))

    def _partial_l2(self, student: Tensor, target: Tensor) -> Tensor:
        margin = self.matcher.reducer.margin(self.margin[self.matcher.matching])
        # The target was made for this step alone, so its memory can be used.
        return partial_l2(self.norm(student), target, margin, inplace=True)

    @property
    def num_channels(self) -> int:
        """The student's."""
        return self.pair.student_shape[0]

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
        """Yields the points that have a matching: all with method "mgd", none with a baseline."""
        return (point for point in self if isinstance(point, MatchedPoint))

    def running_sums(self) -> Iterator[RunningSums]:
        """Yields the statistics of all points."""
        for point in self:
            yield from point.running_sums()

    def __str__(self) -> str:
        return str(self.pairs)


def _check_channels(tap: Tap, features: Tensor, channels: int) -> None:
    if features.shape[1] != channels:
        raise TapError(
            f"tap '{tap}' reads {features.shape[1]} channels, but read {channels} when "
            "the distiller was made; make a new one for a changed network"
        )


def _pool(features: Tensor, size: tuple[int, int]) -> Tensor:
    return features if features.shape[2:] == size else F.adaptive_avg_pool2d(features, size)

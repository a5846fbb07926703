"""DistillationPoint: where one student layer follows one teacher layer, and how."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mgd.errors import TapError
from mgd.inside import PointPair, Tap
from mgd.method.matcher import ChannelMatcher
from mgd.method.running import RunningMargin, RunningSums
from mgd.tensors.losses import partial_l2
from mgd.tensors.reducers import Reducer


class Target(NamedTuple):
    """Teacher features that are folded already."""

    maps: Float[Tensor, "batch student height width"]


class DistillationPoint(nn.Module):
    """Two tapped layers, brought to one size; a subclass says how far they are apart.

    Args:
        pair: A resolved `PointPair`.
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
        teacher: Float[Tensor, "batch teacher height width"],
    ) -> Float[Tensor, " batch"]:
        """Returns the loss of each image, summed over channels and positions."""
        return self.loss(*self.align(student, teacher))

    def keep(self, teacher: Tensor) -> Tensor | Target:
        """Returns all that the loss needs of the teacher's features, in little memory."""
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
        """Adds a batch to the statistics."""
        student, teacher = self.align(student, teacher)
        self.observe_aligned(student, teacher)
        if self.running_margin is not None:
            self.running_margin.update(teacher)

    def observe_aligned(self, student: Tensor, teacher: Tensor) -> None:
        """Adds what a subclass keeps, if it keeps anything."""

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
        return _to_one_size(student, teacher)


class MatchedPoint(DistillationPoint):
    """Matching Guided Distillation: one target per student channel, made of matched channels.

    Args:
        pair: A resolved `PointPair`.
        reducer: How matched teacher channels become one target.
        solver: As in `mgd.assign`.
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
        """Returns the loss of each image; `teacher` as the tap or `keep` gives it."""
        if not isinstance(teacher, Target):
            return self.loss(*self.align(student, teacher))
        _check_channels(self.pair.student, student, self.pair.student_shape[0])
        return self._distance(*_to_one_size(student, teacher.maps))

    def keep(self, teacher: Tensor) -> Tensor | Target:
        """Folds features, to a G-th of them, unless they need pooling to the student's size."""
        if teacher.shape[2:] != self.pair.size:
            return teacher
        _check_channels(self.pair.teacher, teacher, self.pair.teacher_shape[0])
        return Target(self.matcher.select(teacher))

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Returns the partial L2 (B,) of the normalised student to its targets."""
        return self._distance(student, self.matcher.select(teacher))

    def _distance(self, student: Tensor, target: Tensor) -> Tensor:
        margin = self.matcher.reducer.margin(self.margin[self.matcher.matching])
        # The target was made for this step alone.
        return partial_l2(self.norm(student), target, margin, inplace=True)

    @property
    def num_channels(self) -> int:
        """The student's."""
        return self.pair.student_shape[0]

    def observe_aligned(self, student: Tensor, teacher: Tensor) -> None:
        """Adds to the channel distances; the norm takes no part in them."""
        self.matcher.update(student, teacher)


def _check_channels(tap: Tap, features: Tensor, channels: int) -> None:
    if features.shape[1] != channels:
        raise TapError(
            f"tap '{tap}' reads {features.shape[1]} channels, but read {channels} when "
            "the distiller was made; make a new one for a changed network"
        )


def _to_one_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    return _pool(student, size), _pool(teacher, size)


def _pool(features: Tensor, size: tuple[int, int]) -> Tensor:
    return features if features.shape[2:] == size else F.adaptive_avg_pool2d(features, size)

"""Other forms of the adapter that starts as the matching, beside the one that is an option.

`docs/evidence.md` says what each gave, under "Forms of the adapter".
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mgd.inside import PointPair
from mgd.method.adapter import AdapterPoint
from mgd.method.matcher import MatchingReport


class WholeScale(AdapterPoint):
    """Starts as the matching itself, with 1 where the option has 1/2."""

    scale = 1.0


class QuarterScale(AdapterPoint):
    """Starts at a quarter of the weights."""

    scale = 0.25


class EighthScale(AdapterPoint):
    """Starts at an eighth of the weights."""

    scale = 0.125


class AtMost256(AdapterPoint):
    """Every k-th row and column alone, from a random start, so that at most 256 positions are left.

    k is the least that does. Over the steps every position counts as much.
    """

    most = 256

    def loss(self, student: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
        """Returns the adapter's loss (B,) over those positions, divided by their share of all."""
        height, width = student.shape[2:]
        step = 1
        while -(-height // step) * -(-width // step) > self.most:
            step += 1
        row, column = torch.randint(step, (2,)).tolist()
        student, teacher = (maps[:, :, row::step, column::step] for maps in (student, teacher))
        if weights is not None:
            weights = weights[:, row::step, column::step]
        share = student.shape[2] * student.shape[3] / (height * width)
        return super().loss(student, teacher, weights) / share


class AtMost64(AtMost256):
    """At most 64 positions."""

    most = 64


# The forms below were compared at the whole scale.


class NoNoise(WholeScale):
    """The matching alone."""

    noise = 0.0


class FullNoise(WholeScale):
    """The matching, and the whole of the usual random start."""

    noise = 1.0


class FreedLater(WholeScale):
    """The matching alone until it is solved for the second time; then the adapter is learned."""

    solved_again = True

    def __init__(self, pair: PointPair):
        super().__init__(pair)
        self.is_free = False

    def loss(self, student: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
        """Returns the loss (B,), at first without a gradient for the convolution."""
        weight = self.projection.weight
        projected = self.norm(F.conv2d(student, weight if self.is_free else weight.detach()))
        return self.comparison(projected, teacher, self.margin, weights)

    def rematch(self, is_first: bool) -> MatchingReport:
        """Solves the matching; the second one is where learning starts, later ones are unused."""
        report = super().rematch(is_first)
        if not is_first and not self.is_free:
            self._become_the_matching()
            self.is_free = True
        return report


class DrawnBack(WholeScale):
    """A loss on the distance of each row from where it started, a hundredth per element."""

    began: Tensor

    def __init__(self, pair: PointPair):
        super().__init__(pair)
        self.register_buffer("began", torch.zeros_like(self.projection.weight))

    def loss(self, student: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
        """Returns the adapter's loss (B,), and that of its weights."""
        apart = (self.projection.weight - self.began).square().sum((1, 2, 3)).mean()
        return super().loss(student, teacher, weights) + 0.01 * self.num_elements * apart

    def _become_the_matching(self) -> None:
        super()._become_the_matching()
        self.began.copy_(self.projection.weight.detach())


class TwoNorms(WholeScale):
    """The student's channels have a BatchNorm of their own in front of the convolution."""

    def __init__(self, pair: PointPair):
        super().__init__(pair)
        self.norm_before = nn.BatchNorm2d(pair.student_shape[0], affine=False)

    def loss(self, student: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
        """Returns the adapter's loss (B,) of the normalised student."""
        return super().loss(self.norm_before(student), teacher, weights)

"""Comparison: how far a student's features are from their target, and in which units."""

import math
from dataclasses import dataclass

from torch import Tensor, nn

from mgd.errors import InputError
from mgd.inside import PointPair
from mgd.tensors.losses import partial_l2, squared_l2
from mgd.tensors.positions import position_kl

NORMS = ("batch", "group")
"""What the norm of a point can be."""

POINT_LOSSES = ("partial_l2", "l2", "softmax")
"""What the loss of a point can be: `mgd.partial_l2`, `mgd.squared_l2`, `mgd.position_kl`."""

_GROUPS = 32
"""Groups of a GroupNorm, as Wu and He use: "Group Normalization", ECCV 2018."""


@dataclass(frozen=True)
class Comparison:
    """The norm in front of a point's loss, and the loss.

    Example:
        >>> from mgd.method.comparison import Comparison
        >>> Comparison(norm="group").make_norm(24)
        GroupNorm(8, 24, eps=1e-05, affine=True)
    """

    norm: str = "batch"
    """"batch" takes mean and deviation over the batch; "group" over groups of one image's channels,
    so that the batch may be as small as one image."""
    loss: str = "partial_l2"
    """A name in `POINT_LOSSES`, or "auto"; see `at`."""
    temperature: float = 4.0
    """Of the softmax over positions."""

    def at(self, pair: PointPair, fallback: str = "partial_l2") -> "Comparison":
        """Returns the comparison at one point, where a loss "auto" is chosen by the place.

        Without a ReLU behind the teacher's tap it is "l2": a negative value then means as much as
        a positive one.

        Args:
            pair: Whose own `loss`, if it has one, goes before that of this object.
            fallback: What "auto" is elsewhere.

        Raises:
            InputError: For a name or temperature that cannot be used.
        """
        loss = pair.loss or self.loss
        if loss == "auto":
            loss = "l2" if pair.linear else fallback
        for argument, name, known in (
            ("norm", self.norm, NORMS),
            ("point_loss", loss, ("auto", *POINT_LOSSES)),
        ):
            if name not in known:
                raise InputError(f"unknown `{argument}` '{name}'; choose one of {', '.join(known)}")
        if not self.temperature > 0:
            raise InputError(f"`point_temperature` (={self.temperature}) must be above 0")
        return Comparison(self.norm, loss, self.temperature)

    @property
    def needs_margin(self) -> bool:
        """Whether the loss looks at the teacher's margins."""
        return self.loss == "partial_l2"

    def make_norm(self, channels: int) -> nn.Module:
        """Makes a fresh norm: a BatchNorm, or a GroupNorm of 32 groups or their largest divisor."""
        if self.norm == "group":
            return nn.GroupNorm(math.gcd(_GROUPS, channels), channels)
        return nn.BatchNorm2d(channels)

    def __call__(
        self,
        student: Tensor,
        target: Tensor,
        margin: Tensor,
        weights: Tensor | None = None,
        inplace: bool = False,
    ) -> Tensor:
        """Returns the loss (B,), a weighted sum over channels and positions.

        Args:
            student: Normalised, (B, C, H, W).
            target: (B, C, H, W).
            margin: (C,), for the partial L2 alone.
            weights: (B, H, W) or `None`, which is 1 everywhere.
            inplace: Whether the target may be overwritten.
        """
        if self.loss == "partial_l2":
            return partial_l2(student, target, margin, inplace, weights)
        if self.loss == "l2":
            return squared_l2(student, target, weights)
        channels, *size = target.shape[1:]
        positions = math.prod(size) if weights is None else weights.sum((1, 2))
        # A mean over channels that are distributions has no sum over elements; so it counts as the
        # mean per element.
        return position_kl(student, target, self.temperature, weights) * (channels * positions)


AUTO = Comparison(loss="auto")
"""What a distiller does where nothing else is asked for."""
PARTIAL_L2, PLAIN_L2 = Comparison(), Comparison(loss="l2")

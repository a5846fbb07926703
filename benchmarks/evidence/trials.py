"""Losses that were tried at the points and are no option, since they gained nothing.

`docs/evidence.md` says what each gave. They are also examples of `--distiller package.module:name`
(docs/own-loss.md).
"""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from mgd import REDUCERS, assign, ranks
from mgd.errors import InputError
from mgd.inside import PointPair
from mgd.method.adapter import AdapterPoint
from mgd.method.folded import FoldedPoint
from mgd.method.matcher import ChannelMatcher, MatchingReport
from mgd.method.point import DistillationPoint, pool
from mgd.method.running import RunningSums
from mgd.tensors.losses import partial_l2

AMP = REDUCERS["amp"]


class Moments(FoldedPoint):
    """Mean and deviation of each target in 4 x 4 cells, after WKD-F (Lv et al., NeurIPS 2024)."""

    def __init__(self, pair: PointPair):
        super().__init__(pair, AMP)

    def _to_target(self, student: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        with torch.autocast(student.device.type, enabled=False):
            ours, theirs = self.norm(student.float()), target.float()
            cells = min(4, target.shape[2]), min(4, target.shape[3])
            size = theirs[0, 0].numel() / (cells[0] * cells[1])
            (mean, deviation), (wanted, wanted_deviation) = (
                _moments(maps, cells) for maps in (ours, theirs)
            )
            difference = (mean - wanted).square() + (deviation - wanted_deviation).square()
            return difference.sum((1, 2, 3)) * size


def _moments(maps: Tensor, cells: tuple[int, int]) -> tuple[Tensor, Tensor]:
    mean = pool(maps, cells)
    variance = pool(maps.square(), cells) - mean.square()
    return mean, variance.clamp_min(1e-5).sqrt()


class Positions(FoldedPoint):
    """Softmax over the positions of each channel, CWD (Shu et al., ICCV 2021), temperature 4."""

    def __init__(self, pair: PointPair):
        super().__init__(pair, AMP)

    def _to_target(self, student: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        with torch.autocast(student.device.type, enabled=False):
            ours, theirs = (maps.float().flatten(2) / 4 for maps in (self.norm(student), target))
            wanted = F.softmax(theirs, 2)
            apart = wanted * (F.log_softmax(theirs, 2) - F.log_softmax(ours, 2))
            return 4**2 * apart.sum((1, 2)) * target.shape[2]  # near the scale of a sum of squares


class Components(DistillationPoint):
    """The first S principal components of the teacher's channels, solved once, by plain L2."""

    mean: Tensor
    basis: Tensor

    def __init__(self, pair: PointPair):
        super().__init__(pair)
        student, teacher = pair.student_shape[0], pair.teacher_shape[0]
        self.sums = _Products(teacher)
        self.register_buffer("mean", torch.zeros(teacher))
        self.register_buffer("basis", torch.eye(min(student, teacher), teacher))
        self.norm = nn.BatchNorm2d(len(self.basis), affine=True)

    def observe_aligned(self, student: Tensor, teacher: Tensor) -> None:
        """Adds the teacher's channels and their products."""
        self.sums.update(teacher)

    def renew_margin(self, margin_of: object) -> None:
        """Solves the components, of equal variance each, from what was seen."""
        count = self.sums.positions.clamp_min(1)
        self.mean.copy_(self.sums.total / count)
        products = self.sums.products / count - torch.outer(self.mean, self.mean)
        values, vectors = torch.linalg.eigh(products.double())
        most = slice(-len(self.basis), None)
        scale = values[most].clamp_min(1e-8).rsqrt()
        self.basis.copy_((vectors[:, most] * scale).T.flip(0).float())
        ranks.share([self.basis])

    def loss(self, student: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
        """Returns the squared distance (B,) of the normalised student to the components."""
        with torch.autocast(student.device.type, enabled=False):
            centred = teacher.detach().float() - self.mean[:, None, None]
            target = torch.einsum("bthw,st->bshw", centred, self.basis)
            ours = self.norm(student.float()[:, : len(self.basis)])
            return (ours - target).square().sum((1, 2, 3))

    @property
    def num_channels(self) -> int:
        """As many components as the student has channels."""
        return len(self.basis)


class _Products(RunningSums):
    """Sums of the channels, and of their products, over positions."""

    positions: Tensor
    total: Tensor
    products: Tensor

    def __init__(self, channels: int):
        super().__init__(positions=(), total=(channels,), products=(channels, channels))

    @torch.no_grad()
    def update(self, maps: Tensor) -> None:
        flat = maps.float().transpose(0, 1).flatten(1)
        self.positions += flat.shape[1]
        self.total += flat.sum(1)
        self.products += flat @ flat.T
        self.image_count += len(maps)


class QuietGroups(FoldedPoint):
    """Groups of two teacher channels that are seldom large at the same place, matched as wholes."""

    def __init__(self, pair: PointPair):
        super().__init__(pair, AMP)
        self.matcher = _GroupMatcher(pair.student_shape[0], pair.teacher_shape[0])


class _GroupMatcher(ChannelMatcher):
    def __init__(self, student: int, teacher: int):
        super().__init__(student, teacher, AMP)
        if teacher != 2 * student:
            raise InputError(f"this trial needs T = 2 S, not T {teacher} and S {student}")
        self.overlap = _Overlap(teacher)

    @torch.no_grad()
    def update(self, student: Tensor, teacher: Tensor) -> None:
        super().update(student, teacher)
        self.overlap.update(teacher)

    @torch.no_grad()
    def solve(self) -> Tensor:
        groups = torch.tensor(_pairs_apart(self.overlap.sum.cpu().numpy()))
        cost = self.compute().cpu()[:, groups].mean(2)
        chosen = torch.from_numpy(linear_sum_assignment(cost.numpy())[1])
        self.matching.copy_(groups[chosen].T)
        return self.matching


class _Overlap(RunningSums):
    """How much the sizes of two channels agree over positions, (T, T)."""

    sum: Tensor

    def __init__(self, channels: int):
        super().__init__(sum=(channels, channels))

    @torch.no_grad()
    def update(self, maps: Tensor) -> None:
        sizes = F.normalize(maps.float().abs().transpose(0, 1).flatten(1), dim=1)
        self.sum += sizes @ sizes.T * len(maps)
        self.image_count += len(maps)


def _pairs_apart(overlap: npt.NDArray[np.float32]) -> list[tuple[int, int]]:
    """Pairs the channels, those that overlap the least first."""
    pairs, free = list[tuple[int, int]](), set(range(len(overlap)))
    order = np.unravel_index(overlap.argsort(None, "stable"), overlap.shape)
    for t, u in zip(*order, strict=True):
        if t != u and {t, u} <= free:
            pairs.append((int(t), int(u)))
            free -= {t, u}
    return pairs


class Steady(FoldedPoint):
    """A matching that changes a pair only where that brings it 0.1 nearer, of at most 4."""

    def __init__(self, pair: PointPair):
        super().__init__(pair, AMP)
        self.matcher = _SteadyMatcher(pair.student_shape[0], pair.teacher_shape[0], AMP)

    def rematch(self, is_first: bool) -> MatchingReport:
        """Solves as `MatchedPoint.rematch`, in favour of the pairs that are there."""
        self.matcher.bonus = 0.0 if is_first else 0.1
        return super().rematch(is_first)


class _SteadyMatcher(ChannelMatcher):
    bonus = 0.0

    @torch.no_grad()
    def solve(self) -> Tensor:
        distance = self.compute().clone()
        columns = torch.arange(distance.shape[0], device=distance.device).expand_as(self.matching)
        distance[columns, self.matching] -= self.bonus
        self.matching.copy_(assign(distance, self.groups, self.solver))
        return self.matching


class EqualPoints(FoldedPoint):
    """Every element weighs the same at every point, instead of twice as much at the next one.

    For networks whose points have half as many elements from one to the next.
    """

    def __init__(self, pair: PointPair):
        super().__init__(pair, AMP)

    def _to_target(self, student: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        # Of three points of E, E / 2 and E / 4 elements, weighted with 1/4, 1/2 and 1: the same for
        # each. Their number of elements takes that back; all together keep their weight.
        share = self.num_elements / (7 / 3 * 2048)
        return super()._to_target(student, target, weights) * share


class MatchedAndAdapted(AdapterPoint):
    """Half of the adapter's loss, and half of the matching's."""

    def __init__(self, pair: PointPair):
        super().__init__(pair)
        self.folded_norm = nn.BatchNorm2d(pair.student_shape[0])

    def loss(self, student: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
        """Returns the mean of the two losses (B,), for an equal weight of their elements."""
        margin = AMP.margin(self.margin[self.matcher.matching])
        folded = partial_l2(self.folded_norm(student), self.matcher.select(teacher), margin)
        # Twice as many teacher channels as student channels: the same weight for an element.
        return (super().loss(student, teacher, weights) + 2 * folded) / 2

"""Baselines: what others put between two layers, where the method of this package matches.

Both learn a 1x1 convolution from the student's channels to the teacher's, which is thrown away
after training. They stand at the same points and see the same features as the matching does, so
that a comparison differs in nothing else.
"""

from torch import Tensor, nn

from mgd.inside import PointPair
from mgd.method.comparison import PARTIAL_L2, PLAIN_L2, Comparison
from mgd.method.point import DistillationPoint


class ProjectedPoint(DistillationPoint):
    """A learned projection of the student to the teacher's channels."""

    def __init__(self, pair: PointPair, bias: bool, comparison: Comparison):
        super().__init__(pair, comparison)
        self.projection = nn.Conv2d(
            pair.student_shape[0], pair.teacher_shape[0], kernel_size=1, bias=bias
        )

    @property
    def num_channels(self) -> int:
        """The teacher's."""
        return self.pair.teacher_shape[0]


class OverhaulPoint(ProjectedPoint):
    """OFD: the partial L2 and margins of the matching, behind a convolution and a BatchNorm.

    Heo et al., "A Comprehensive Overhaul of Feature Distillation", ICCV 2019,
    https://arxiv.org/abs/1904.01866. The direct test of whether a matching can take the place of
    the learned convolution.
    """

    def __init__(self, pair: PointPair, comparison: Comparison = PARTIAL_L2):
        super().__init__(pair, bias=False, comparison=comparison)
        self.norm = comparison.make_norm(pair.teacher_shape[0])

    def loss(self, student: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
        """Returns the loss (B,) over the teacher's channels."""
        projected = self.norm(self.projection(student))
        return self.comparison(projected, teacher, self.margin, weights)


class HintPoint(ProjectedPoint):
    """FitNet: the squared distance of a learned projection to the teacher.

    Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015,
    https://arxiv.org/abs/1412.6550; trained along with the student, as later comparisons do,
    instead of in a stage before it.
    """

    def __init__(self, pair: PointPair, comparison: Comparison = PLAIN_L2):
        super().__init__(pair, bias=True, comparison=comparison)

    def loss(self, student: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
        """Returns the squared distance (B,), summed over channels and positions."""
        return self.comparison(self.projection(student), teacher, self.margin, weights)


BASELINES: dict[str, type[OverhaulPoint | HintPoint]] = {"fitnet": HintPoint, "ofd": OverhaulPoint}

"""AdapterPoint: Matching Guided Distillation with an adapter that starts as the matching."""

import torch
from torch import Tensor, nn

from mgd import ranks
from mgd.inside import PointPair
from mgd.method.comparison import PARTIAL_L2, Comparison
from mgd.method.matcher import MatchingReport
from mgd.method.point import MatchedPoint
from mgd.tensors.reducers import REDUCERS


class AdapterPoint(MatchedPoint):
    """A 1x1 convolution from the student's channels to the teacher's, which starts as the matching.

    Row t of its weight starts as 1/2 at the student channel that teacher channel t is matched to,
    plus a twentieth of the usual random start. From there it is learned, and it is thrown away
    after training. So the first steps pull each student channel to the teacher channels that it
    resembles, as without an adapter, and later steps may mix channels, as with the learned
    convolutions of OFD (`mgd.method.baselines`), whose loss this is: the partial L2 over all of the
    teacher's channels, behind a BatchNorm.

    The matching is solved once, before training. Solved again, it changes nothing.

    Args:
        pair: A resolved `PointPair`, with shapes.
        solver: A name in `mgd.SOLVERS`, as in `mgd.assign`.
        comparison: The norm behind the convolution, and the loss.
    """

    solved_again = False
    noise = 0.1
    """Share of a convolution's usual random start that is added to the matching. On the digits
    neither none nor all of it was better; docs/evidence.md."""
    scale = 0.5
    """What both are multiplied by: rows are then about as long as those of the usual start, 0.58.
    Behind a BatchNorm this changes no output, only how fast the row turns: the shorter, the faster.
    With whole ones the student was worse on Grocery; docs/evidence.md."""

    def __init__(self, pair: PointPair, solver: str = "scipy", comparison: Comparison = PARTIAL_L2):
        # Any reducer but the sparse one gives every student channel as many as there are.
        super().__init__(pair, REDUCERS["amp"], solver, comparison)
        student, teacher = pair.student_shape[0], pair.teacher_shape[0]
        self.projection = nn.Conv2d(student, teacher, kernel_size=1, bias=False)
        self.norm = comparison.make_norm(teacher)

    def loss(self, student: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
        """Returns the loss (B,) over the teacher's channels."""
        projected = self.norm(self.projection(student))
        return self.comparison(projected, teacher, self.margin, weights)

    @property
    def num_channels(self) -> int:
        """The teacher's."""
        return self.pair.teacher_shape[0]

    def start(self) -> None:
        """Solves a first matching, on this rank alone, and sets the convolution to it."""
        super().start()
        self._become_the_matching()

    def rematch(self, is_first: bool) -> MatchingReport:
        """Solves the matching for all ranks; the first one is where the convolution starts."""
        report = super().rematch(is_first)
        if is_first:
            self._become_the_matching()
            ranks.share([self.projection.weight])
        return report

    @torch.no_grad()
    def _become_the_matching(self) -> None:
        self.projection.reset_parameters()
        weight = self.projection.weight[:, :, 0, 0]
        weight.mul_(self.noise).add_(self._matching_matrix()).mul_(self.scale)

    def _matching_matrix(self) -> Tensor:
        """Returns (T, S): 1 where t is matched to s; rows add up to 1.

        A teacher channel without a student channel of its own, of which there are T mod S, follows
        the nearest. One with several, where S > T, follows their mean.
        """
        distance, matching = self.matcher.compute(), self.matcher.matching
        matrix = torch.zeros_like(distance.T)
        matrix[matching, torch.arange(matching.shape[1], device=matching.device)] = 1
        alone = ~matrix.any(1)
        matrix[alone, distance.argmin(0)[alone]] = 1
        return matrix / matrix.sum(1, keepdim=True)

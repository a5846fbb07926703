"""FoldedPoint: Matching Guided Distillation without an adapter."""

from jaxtyping import Float
from torch import Tensor

from mgd.errors import TapError
from mgd.inside import PointPair
from mgd.method.comparison import PARTIAL_L2, Comparison
from mgd.method.point import MatchedPoint, Target, check_channels, pool
from mgd.tensors.reducers import Reducer


class FoldedPoint(MatchedPoint):
    """Matching Guided Distillation: one target per student channel, made of matched channels.

    The teacher's features are pooled to the student's size first and reduced then, at every image
    size: this is also how the channel distances are measured.

    Args:
        pair: A resolved `PointPair`, with shapes.
        reducer: How matched teacher channels become one target.
        solver: A name in `mgd.SOLVERS`, as in `mgd.assign`.
        comparison: The norm of the student, and the loss.
    """

    def __init__(
        self,
        pair: PointPair,
        reducer: Reducer,
        solver: str = "scipy",
        comparison: Comparison = PARTIAL_L2,
    ):
        super().__init__(pair, reducer, solver, comparison)
        self.norm = comparison.make_norm(pair.student_shape[0])

    def forward(
        self,
        student: Float[Tensor, "batch student rows columns"],
        teacher: Float[Tensor, "batch teacher height width"] | Target,
        weights: Float[Tensor, "batch _ _"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """Returns the loss of each image; see `DistillationPoint.forward`."""
        if not isinstance(teacher, Target):
            return super().forward(student, teacher, weights)
        check_channels(self.pair.student, student, self.pair.student_shape[0])
        size = (teacher.maps.shape[2], teacher.maps.shape[3])
        if student.shape[2] < size[0] or student.shape[3] < size[1]:
            raise TapError(
                f"tap '{self.pair.student}' reads maps of {tuple(student.shape[2:])}, but larger "
                "ones from other images of the same size; make a new distiller"
            )
        return self.per_element(self._to_target, pool(student, size), teacher.maps, weights)

    def keep(self, teacher: Tensor) -> Tensor | Target:
        """Reduces the features, to a G-th of them, where the student is not smaller."""
        if self.pair.size != self.pair.teacher_shape[1:]:
            return teacher  # to be pooled first, which takes the student's features
        check_channels(self.pair.teacher, teacher, self.pair.teacher_shape[0])
        return Target(self.matcher.select(teacher))

    def loss(self, student: Tensor, teacher: Tensor, weights: Tensor | None = None) -> Tensor:
        """Returns the loss (B,) of the normalised student to its targets."""
        return self._to_target(student, self.matcher.select(teacher), weights)

    def _to_target(self, student: Tensor, target: Tensor, weights: Tensor | None) -> Tensor:
        margin = self.matcher.reducer.margin(self.margin[self.matcher.matching])
        # The target was made for this step alone, so its memory can be used.
        return self.comparison(self.norm(student), target, margin, weights, inplace=True)

    @property
    def num_channels(self) -> int:
        """The student's."""
        return self.pair.student_shape[0]

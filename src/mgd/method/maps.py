"""Maps: what the networks of a distiller show at its points, for pictures of the method."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from torch import Tensor

from mgd.inside import evaluating
from mgd.method.distiller import Distiller
from mgd.method.folded import FoldedPoint


@dataclass(frozen=True, eq=False)
class PointMaps:
    """The feature maps of both networks at one point, on the same images and at one size."""

    point: FoldedPoint
    student: Float[Tensor, "batch student height width"]
    """As the student's tap reads it."""
    teacher: Float[Tensor, "batch teacher height width"]
    """As the teacher's tap reads it."""

    def normalised(self) -> Float[Tensor, "batch student height width"]:
        """Returns the student behind the point's trained BatchNorm: what the loss compares."""
        with evaluating(self.point.norm):
            return self.point.norm(self.student)  # type: ignore[no-any-return]  # a module's call

    def standardised(self) -> Float[Tensor, "batch student height width"]:
        """Returns the student with mean 0 and deviation 1 over these images, channel by channel.

        That is what a BatchNorm gives that was not trained yet. A constant channel is 0.
        """
        deviation, mean = torch.std_mean(self.student, (0, 2, 3), keepdim=True, correction=0)
        return (self.student - mean) / deviation.clamp_min(1e-6)

    def target(self) -> Float[Tensor, "batch student height width"]:
        """Returns what the reducer makes of the teacher's matched channels."""
        return self.point.matcher.select(self.teacher)

    def margin(self) -> Float[Tensor, " student"]:
        """Returns the margin of each target."""
        matcher = self.point.matcher
        return matcher.reducer.margin(self.point.margin[matcher.matching])


@torch.no_grad()
def point_maps(
    distiller: Distiller, images: Num[Tensor, "batch colours height width"]
) -> list[PointMaps]:
    """Runs both networks in eval mode, and returns the maps in float32, at points of method "mgd".

    Neither the statistics of the points nor those of any BatchNorm change.

    Args:
        distiller: Points with a learned convolution are left out: no channel has a target alone.
        images: As `mgd.Distiller` takes them.

    Example:
        >>> import torch, mgd
        >>> teacher = mgd.create_model("cifar_resnet8", num_classes=10)
        >>> student = mgd.create_model("cifar_resnet8_x0_5", num_classes=10)
        >>> images = torch.randn(2, 3, 32, 32)
        >>> with mgd.Distiller(teacher, student, images) as distiller:
        ...     maps = point_maps(distiller, images)[0]
        >>> maps.student.shape, maps.teacher.shape, maps.target().shape
        (torch.Size([2, 8, 32, 32]), torch.Size([2, 16, 32, 32]), torch.Size([2, 8, 32, 32]))
    """
    with evaluating(distiller):
        by_teacher, _ = distiller.frozen_teacher(images)
        by_student, _ = distiller.learner.run_student(images)
    found = []
    for point, student, teacher in zip(distiller.points, by_student, by_teacher, strict=True):
        if isinstance(point, FoldedPoint):
            followed, guiding = point.align(student, teacher)
            found.append(PointMaps(point, followed.float(), guiding.float()))
    return found

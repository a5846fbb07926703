"""Paired: a teacher and a student with taps in them, until both are given back."""

from torch import nn

from mgd.inside import Canvas, Images, canvas_of
from mgd.method.learner import Learner
from mgd.method.point import DistillationPoints
from mgd.method.teacher import FrozenTeacher


class Paired(nn.Module):
    """The two networks of a `Distiller`: who they are, where they are tapped, and their release."""

    frozen_teacher: FrozenTeacher
    learner: Learner

    @property
    def teacher(self) -> nn.Module:
        """The teacher, the same object that was given."""
        return self.frozen_teacher.network

    @property
    def student(self) -> nn.Module:
        """The student, the same object that was given."""
        return self.learner.tapped_student.network

    @property
    def points(self) -> DistillationPoints:
        """The points, resolved; they print as a table. Each has a `pair` and a `margin`.

        With the methods "mgd" and "mgd-adapter" each has a `matcher` and a `norm` as well.
        """
        return self.learner.points

    @property
    def term_weights(self) -> dict[str, float]:
        """The weight of each of `Distilled.terms`."""
        return dict(self.learner.term_weights)

    def canvas(self, images: Images) -> Canvas:
        """Returns where the images lie in what the networks' layers see; see `Canvas`."""
        return canvas_of(self.student, images)

    def close(self) -> None:
        """Gives both networks back: no hooks, and every mode and `requires_grad` as before.

        It cannot be used afterwards.
        """
        self.frozen_teacher.close()
        self.learner.close()

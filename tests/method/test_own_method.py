"""A loss of one's own at the points of a distiller."""

import pytest
import torch
from test_distiller import IMAGES, make
from torch import nn

import mgd
from mgd.errors import InputError
from mgd.method.weights import feature_weights


class Gap(mgd.DistillationPoint):
    """The distance of the means over all channels and positions."""

    num_channels = 1

    def __init__(self, pair):
        super().__init__(pair)
        self.shift = nn.Parameter(torch.zeros(()))

    def loss(self, student, teacher):
        return (student.mean((1, 2, 3)) - teacher.mean((1, 2, 3)) + self.shift).square()


def test_the_distiller_has_the_loss_of_the_class_at_every_point():
    distiller = make(method=Gap, kd_weight=0.0).eval()
    out = distiller(IMAGES)
    for i, point in enumerate(distiller.points):
        assert isinstance(point, Gap)
        ours, theirs = features(distiller)[i]
        expected = (ours.mean((1, 2, 3)) - theirs.mean((1, 2, 3))).square()
        torch.testing.assert_close(out.point_losses[:, i], expected)
    sizes = [point.pair.size[0] * point.pair.size[1] for point in distiller.points]
    assert list(distiller.term_weights) == [f"own_{i + 1}" for i in range(len(sizes))]
    assert list(distiller.term_weights.values()) == feature_weights(sizes)


def features(distiller):
    student, _ = distiller.learner.run_student(IMAGES)
    teacher, _ = distiller.frozen_teacher(IMAGES)
    return list(zip(student, teacher, strict=True))


def test_what_the_class_learns_is_trained_with_the_student():
    distiller = make(method=Gap, kd_weight=0.0).train()
    distiller(IMAGES).loss.mean().backward()
    assert all(point.shift.grad.abs() > 0 for point in distiller.points)


def test_something_else_than_a_point_is_told():
    with pytest.raises(InputError, match="`method` made a int of the pair"):
        make(method=lambda pair: 3)


@pytest.mark.parametrize("given", [{"norm": "group"}, {"point_loss": "l2"}])
def test_what_the_class_would_not_use_is_refused(given):
    with pytest.raises(InputError, match="have no effect on points of your own"):
        make(method=Gap, **given)

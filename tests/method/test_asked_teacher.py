"""Answers: with them the learner gets what it would get of the teacher."""

import pytest
import torch

import mgd
from mgd.method.answers import ask_teacher, guidance_from

IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(2))
LABELS = torch.tensor([0, 3, 4, -1, 2, 9])
POINTS = {
    "of one size": ("layer2.0.relu", "layer2.0.relu"),
    "teacher larger": ("layer1.0.relu", "layer2.0.relu"),
    "student larger": ("layer3.0.relu", "layer2.0.relu"),
}


def distiller(points="of one size", **options):
    torch.manual_seed(1)
    teacher = mgd.create_model("cifar_resnet8", 10)
    student = mgd.create_model("cifar_resnet8_x0_5", 10)
    options = {"kd_weight": 1.0, "points": [POINTS[points]], **options}
    return mgd.Distiller(teacher, student, IMAGES, **options)


def compared(made, track=False):
    """Returns what is distilled with answers, and what with the teacher."""
    made.mark_matched()
    kept = guidance_from(made, ask_teacher(made, IMAGES), track)
    assert kept.track == track
    return [
        made.learner(IMAGES, LABELS, guidance) for guidance in (kept, made.guide(IMAGES, track))
    ]


@pytest.mark.parametrize("method", mgd.method.choices.METHODS)
@pytest.mark.parametrize("points", POINTS)
def test_answers_take_the_teachers_place(method, points):
    found, wanted = compared(distiller(points, method=method).eval())
    assert found.terms.keys() == wanted.terms.keys()
    for name, value in wanted.terms.items():
        assert torch.equal(found.terms[name], value), name


@pytest.mark.parametrize("kd", mgd.LOGIT_LOSSES)
def test_every_loss_on_logits_takes_them(kd):
    found, wanted = compared(distiller(kd=kd).eval())
    assert torch.equal(found.kd_loss, wanted.kd_loss)
    assert wanted.kd_loss.abs().sum() > 0


def test_logits_are_already_of_the_students_classes():
    made = distiller(teacher_output=lambda output: output.flip(1)).eval()
    assert torch.equal(ask_teacher(made, IMAGES).logits, made.teacher(IMAGES).flip(1))
    found, wanted = compared(made)
    assert torch.equal(found.kd_loss, wanted.kd_loss)


def test_without_a_loss_on_them_there_are_no_logits():
    assert ask_teacher(distiller(kd_weight=0.0), IMAGES).logits is None


@pytest.mark.parametrize("points", POINTS)
def test_a_later_matching_makes_its_own_targets_of_them(points):
    made = distiller(points).eval()
    answers = ask_teacher(made, IMAGES)
    matching = made.points[0].matcher.matching
    matching.copy_(matching.flip(1))
    found = made.learner(IMAGES, LABELS, guidance_from(made, answers))
    assert torch.equal(found.loss, made(IMAGES, LABELS).loss)


@pytest.mark.parametrize("points", POINTS)
def test_they_can_be_tracked(points):
    made = distiller(points).eval()
    costs = []
    for track in (lambda: compared(made, track=True)[0], lambda: made(IMAGES, LABELS, track=True)):
        for sums in made.points.running_sums():
            sums.reset()
        track()
        costs.append(made.points[0].matcher.compute())
    torch.testing.assert_close(*costs)

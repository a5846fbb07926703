"""KD between networks that return more than logits, or something else."""

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mgd

IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(3))


class Net(nn.Module):
    """A convolution and a head; `form` makes its output of the logits."""

    def __init__(self, channels=4, classes=5, form=None):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, channels, 3, 2, 1), nn.ReLU()
        self.head, self.form = nn.Linear(channels, classes), form or nn.Identity()

    def forward(self, x):
        return self.form(self.head(self.relu(self.conv(x)).mean((2, 3))))


class WithAuxiliary(NamedTuple):
    logits: Tensor
    aux_logits: Tensor


class Auxiliary(Net):
    """Returns a named tuple in training mode, and logits in eval mode, as GoogLeNet does."""

    def __init__(self, channels=4, classes=5):
        super().__init__(channels, classes)
        self.aux = nn.Linear(channels, classes)

    def forward(self, x):
        features = self.relu(self.conv(x)).mean((2, 3))
        logits = self.head(features)
        return WithAuxiliary(logits, self.aux(features)) if self.training else logits


def make(teacher=None, student=None, **options):
    options = {"points": [("relu", "relu")], "kd_weight": 1.0, **options}
    return mgd.Distiller(teacher or Net(8), student or Net(), IMAGES, **options)


def as_dict(logits):
    return {"loss": None, "logits": logits, "hidden_states": (logits,)}


def test_a_student_with_auxiliary_heads_trains_on_logits_and_features():
    student = Auxiliary()
    distiller = make(student=student)
    distiller.mark_matched()
    out = distiller.train()(IMAGES)
    assert isinstance(out.output, WithAuxiliary)
    assert out.logits is out.output.logits
    torch.testing.assert_close(out.kd_loss, mgd.logit_kd(out.logits, distiller.teacher(IMAGES)))
    labels = torch.arange(6) % 5
    losses = [F.cross_entropy(logits, labels) for logits in out.output]
    (sum(losses) + out.loss.mean()).backward()
    assert all(weight.grad.any() for weight in student.parameters())
    assert torch.equal(distiller.eval()(IMAGES).logits, student(IMAGES))


def test_dictionaries_are_read_in_both_networks():
    plain, teacher, student = make(), Net(8, form=as_dict), Net(form=as_dict)
    teacher.load_state_dict(plain.teacher.state_dict())
    student.load_state_dict(plain.student.state_dict())
    out, wanted = make(teacher, student).eval()(IMAGES), plain.eval()(IMAGES)
    assert torch.equal(out.logits, wanted.logits)
    assert torch.equal(out.loss, wanted.loss)


@pytest.mark.parametrize("kd", mgd.LOGIT_LOSSES)
def test_a_teacher_with_its_classes_in_another_order(kd):
    order = torch.tensor([3, 0, 4, 2, 1])
    plain, teacher = make(kd=kd), Net(8)
    teacher.load_state_dict(plain.teacher.state_dict())
    for name in ("weight", "bias"):
        weight = getattr(teacher.head, name)
        weight.data = weight.data[order.argsort()]
    sorted_ = make(teacher, plain.student, kd=kd, teacher_output=lambda out: out[:, order])
    labels = torch.tensor([0, 1, -1, 3, -1, 4])
    found, wanted = sorted_.eval()(IMAGES, labels), plain.eval()(IMAGES, labels)
    torch.testing.assert_close(found.kd_loss, wanted.kd_loss)


def test_a_teacher_of_more_classes_teaches_those_of_the_student():
    order = torch.tensor([7, 1, 2, 8, 3])
    teacher, student = Net(8, classes=9, form=as_dict), Net()
    distiller = make(teacher, student, teacher_output=lambda out: mgd.logits_of(out)[:, order])
    scores = teacher(IMAGES)["logits"][:, order]
    torch.testing.assert_close(distiller(IMAGES).kd_loss, mgd.logit_kd(student(IMAGES), scores))


SOFTMAX = "KD takes a softmax over K classes of which one is right, but "


@pytest.mark.parametrize(
    ("teacher", "student", "message"),
    [
        ({"classes": 9}, {}, r"teacher output \(6, 9\) and student output \(6, 5\) are no logits"),
        ({"classes": 1}, {"classes": 1}, r"\(6, 1\) .* of the same classes, 2 or more"),
        ({"form": lambda x: x[..., None]}, {"form": lambda x: x[..., None]}, r"\(6, 5, 1\)"),
        ({}, {"form": lambda x: (x, x)}, "a network returned a tuple, in which no class scores"),
        ({"form": lambda x: {"boxes": x, "scores": x}}, {}, "a dict with boxes, scores, in which"),
    ],
)
def test_outputs_that_are_no_logits_of_single_classes_are_told(teacher, student, message):
    with pytest.raises(mgd.InputError, match=f"^{SOFTMAX}.*{message}.*set `kd_weight` to 0"):
        make(Net(8, **teacher), Net(**student))
    make(Net(8, **teacher), Net(**student), kd_weight=0.0)(IMAGES)


def test_an_output_that_changes_in_training_mode_is_told():
    student = Net()
    student.form = nn.Dropout()  # any module that knows its mode
    student.form.forward = lambda x: (x, x) if student.form.training else x
    distiller = make(student=student)
    with pytest.raises(mgd.InputError, match=f"{SOFTMAX}a network returned a tuple"):
        distiller.train()(IMAGES)


LABELS = torch.arange(6) % 5


@pytest.mark.parametrize("kd", mgd.LOGIT_LOSSES)
@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (F.one_hot(LABELS), r"int64 \(6, 5\)"),
        (F.one_hot(LABELS).bool(), r"bool \(6, 5\)"),
        (torch.rand(6, 5), r"float32 \(6, 5\)"),
        (torch.rand(6), r"float32 \(6,\)"),
        (LABELS[:4], r"int64 \(4,\)"),
    ],
)
def test_labels_that_are_no_single_classes_are_told(kd, labels, kind):
    message = f"{SOFTMAX}`labels` are {kind}, not one class .* 6 images; set `kd_weight` to 0"
    with pytest.raises(mgd.InputError, match=message):
        make(kd=kd)(IMAGES, labels)
    make(kd=kd, kd_weight=0.0)(IMAGES, labels)


@pytest.mark.parametrize("kind", [torch.int16, torch.int32])
def test_smaller_integers_are_labels_too(kind):
    distiller = make(kd="dkd").eval()
    found, wanted = distiller(IMAGES, LABELS.to(kind)), distiller(IMAGES, LABELS)
    assert torch.equal(found.loss, wanted.loss)

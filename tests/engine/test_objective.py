"""The loss: terms add up, and their weights are the published ones."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mgd
from mgd.engine.config import DistillationConfig
from mgd.engine.objective import Objective, term_weights
from mgd.models.pairs import known_points
from mgd.points import PointPair


class Net(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, 2 * channels, 3, 2, 1)
        self.norm2 = nn.BatchNorm2d(2 * channels)
        self.relu2 = nn.ReLU()
        self.head = nn.Linear(2 * channels, 5)

    def forward(self, x):
        x = self.relu1(self.norm1(self.conv1(x)))
        return self.head(self.relu2(self.norm2(self.conv2(x))).mean((2, 3)))


IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 3])


def distiller(**options):
    options = {"points": [("relu1", "relu1"), ("relu2", "relu2")], **options}
    return mgd.Distiller(Net(8), Net(4), example=IMAGES, **options)


def test_a_student_alone_has_the_cross_entropy_alone():
    network = Net(4)
    logits, terms = Objective(network, DistillationConfig())(IMAGES, LABELS)
    assert list(terms) == ["ce"]
    torch.testing.assert_close(terms["ce"].mean(), F.cross_entropy(logits, LABELS))


def test_the_weighted_terms_are_the_distillers_losses():
    network = distiller()
    mgd.update_matching(network, [IMAGES])
    config = DistillationConfig(loss_factor=50.0, kd_weight=0.25)
    objective = Objective(network, config)
    objective.eval()
    logits, terms = objective(IMAGES, LABELS)
    _, point_losses, kd_loss = network(IMAGES)
    assert list(terms) == ["ce", "kd", "mgd_1", "mgd_2"]
    expected = {
        "ce": F.cross_entropy(logits, LABELS, reduction="none"),
        "kd": 0.25 * kd_loss,
        "mgd_1": point_losses[:, 0] / 2 / 50,
        "mgd_2": point_losses[:, 1] / 50,
    }
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)


def test_without_kd_there_is_no_kd_term():
    assert "kd" not in term_weights(distiller(kd_temperature=None), DistillationConfig())


def test_auto_keeps_the_terms_worth_whatever_the_size():
    """With a mean of 1 per element, the terms add up to 20."""
    weights = term_weights(distiller(), DistillationConfig())
    elements = {"mgd_1": 4 * 8 * 8, "mgd_2": 8 * 4 * 4}
    assert sum(weights[name] * count for name, count in elements.items()) == pytest.approx(20)
    assert weights["mgd_1"] == pytest.approx(weights["mgd_2"] / 2)


def test_auto_is_1e4_for_the_published_pair():
    """ResNet-50 to MobileNet-V1 at 224 px; features take their shapes from networks without data.

    The published code divides the sum of its weighted terms by 1e4 at four points.
    """
    with torch.device("meta"):
        teacher, student = mgd.create_model("resnet50"), mgd.create_model("mobilenet_v1")
        image = torch.empty(1, 3, 224, 224)
    shapes = {}

    def keep(key):
        return lambda module, inputs: shapes.__setitem__(key, tuple(inputs[0].shape[1:]))

    pairs = known_points("resnet50", "mobilenet_v1")
    for teacher_path, student_path in pairs:
        teacher.get_submodule(teacher_path).register_forward_pre_hook(keep(teacher_path))
        student.get_submodule(student_path).register_forward_pre_hook(keep(student_path))
    teacher.eval()(image)
    student.eval()(image)
    sizes = [PointPair(mgd.Tap(a), mgd.Tap(b), None, shapes[a], shapes[b]) for a, b in pairs]
    elements = [pair.student_shape[0] * pair.size[0] * pair.size[1] for pair in sizes]
    weighted = sum(n * 2.0 ** -(len(pairs) - 1 - i) for i, n in enumerate(elements))
    assert len(pairs) == 4
    assert weighted / 20 == pytest.approx(1e4, rel=0.01)


def test_the_teacher_is_not_trained():
    objective = Objective(distiller(), DistillationConfig())
    trained = {name for name, p in objective.named_parameters() if p.requires_grad}
    assert trained
    assert not any("teacher" in name for name in trained)
    _, terms = objective(IMAGES, LABELS)
    sum(term.sum() for term in terms.values()).backward()
    assert all(p.grad is None for p in objective.network.teacher.parameters())


def test_close_takes_the_taps_out():
    network = distiller()
    Objective(network, DistillationConfig()).close()
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in network.teacher.modules())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in network.student.modules())

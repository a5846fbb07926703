"""The loss: terms add up, and their weights are the published ones."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mgd
from mgd.engine.options.config import DistillationConfig
from mgd.engine.tasks.objective import Objective, term_weights
from mgd.inside.points import PointPair
from mgd.models.pairs import known_points


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
    points = [("relu1", "relu1"), ("relu2", "relu2")]
    return mgd.Distiller(Net(8), Net(4), **{"points": points, "example": IMAGES, **options})


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


def test_without_points_there_is_kd_alone():
    assert term_weights(distiller(points=()), DistillationConfig()) == {"ce": 1.0, "kd": 1.0}


def test_without_kd_there_is_no_kd_term():
    assert "kd" not in term_weights(distiller(kd_temperature=None), DistillationConfig())


@pytest.mark.parametrize("worth", [20.0, 1.0])
def test_the_worth_is_that_of_the_mean_per_element(worth):
    """With a mean of 1 per element, the terms add up to the worth."""
    weights = term_weights(distiller(), DistillationConfig(feature_weight=worth))
    elements = {"mgd_1": 4 * 8 * 8, "mgd_2": 8 * 4 * 4}
    assert sum(weights[name] * count for name, count in elements.items()) == pytest.approx(worth)
    assert weights["mgd_1"] == pytest.approx(weights["mgd_2"] / 2)


@pytest.mark.parametrize(
    ("pixels", "worth"), [(8, 256 / 200), (16, 1024 / 200), (32, 20), (64, 20)]
)
def test_auto_is_worth_less_where_there_are_few_elements(pixels, worth):
    network = distiller(example=torch.randn(2, 3, pixels, pixels))
    weights = term_weights(network, DistillationConfig())
    elements = {"mgd_1": 4 * pixels**2, "mgd_2": 8 * pixels**2 / 4}
    total = sum(weights[name] * count for name, count in elements.items())
    assert total == pytest.approx(worth, rel=0.01)


@pytest.mark.parametrize(
    ("teacher", "student", "factor"),
    [
        ("resnet50", "mobilenet_v1", 10_035),
        ("resnet50", "mobilenet_v2", 6_115),
        ("resnet50", "mobilenet_v2_eccv", 6_115),
        ("resnet152", "resnet50", 20_070),
    ],
)
def test_auto_at_224_px_is_that_of_the_table(teacher, student, factor):
    """The table of docs/method.md; the published code divides by 1e4, tuned on the first pair."""
    assert weighted_elements(teacher, student, pixels=224) / 20 == pytest.approx(factor, abs=1)


def weighted_elements(teacher, student, pixels):
    """Takes the shapes from networks without data."""
    with torch.device("meta"):
        networks = [mgd.create_model(name).eval() for name in (teacher, student)]
        image = torch.empty(1, 3, pixels, pixels)
    shapes = {}

    def keep(key):
        return lambda module, inputs: shapes.__setitem__(key, tuple(inputs[0].shape[1:]))

    pairs = known_points(teacher, student)
    for side, network in enumerate(networks):
        for pair in pairs:
            network.get_submodule(pair[side]).register_forward_pre_hook(keep((side, pair[side])))
        network(image)
    sizes = [PointPair(mgd.Tap(a), mgd.Tap(b), None, shapes[0, a], shapes[1, b]) for a, b in pairs]
    elements = [pair.student_shape[0] * pair.size[0] * pair.size[1] for pair in sizes]
    return sum(n * 2.0 ** -(len(pairs) - 1 - i) for i, n in enumerate(elements))


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

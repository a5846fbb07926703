"""The weights of the teacher's terms, by hand-made counts of elements."""

import pytest
import torch

import mgd
from mgd.method.weights import feature_weights, logit_weight


@pytest.mark.parametrize(
    ("elements", "expected"),
    [([], 1.0), ([1000, 500], 0.75), ([2000, 1000], 0.5), ([8000, 2000], 0.0), ([10**6] * 4, 0.0)],
)
def test_the_logits_get_what_few_features_leave(elements, expected):
    assert logit_weight(elements) == expected


@pytest.mark.parametrize("elements", [[300], [1000, 500], [2000, 3000, 100], [5000]])
def test_the_automatic_weights_are_two_sides_of_one_share(elements):
    # One point alone has the share 1, so its weight times its elements is the weight an element.
    together = sum(w * e for w, e in zip(feature_weights(elements), elements, strict=True))
    assert together / 20 + logit_weight(elements) == pytest.approx(1.0)


def test_a_given_weight_is_taken():
    assert logit_weight([10, 10], 0.3) == 0.3
    assert logit_weight([10, 10], 0) == 0


@pytest.mark.parametrize("weight", [-1.0, float("nan")])
def test_a_weight_out_of_range_is_refused(weight):
    with pytest.raises(mgd.InputError, match=r"`kd_weight` .* must be at least 0"):
        logit_weight([10], weight)


@pytest.mark.parametrize(("size", "has_logits"), [(8, True), (64, False)])
def test_a_distiller_decides_by_its_points(size, has_logits):
    teacher = mgd.create_model("cifar_resnet8", num_classes=10)
    student = mgd.create_model("cifar_resnet8_x0_5", num_classes=10)
    images = torch.randn(2, 3, size, size)
    with mgd.Distiller(teacher, student, images, kd_weight="auto") as distiller:
        elements = [point.num_elements for point in distiller.points]
        weights = distiller.term_weights
        assert weights.get("kd", 0) == pytest.approx(logit_weight(elements))
        assert ("kd" in distiller(images).terms) == has_logits

"""The weight of the logits beside the features, from the number of labels."""

import pytest

from mgd.method.weights import logit_weight


@pytest.mark.parametrize(
    ("labels", "expected"), [(0, 1.0), (10, 0.9), (50, 0.5), (99.5, 0.005), (100, 0.0), (450, 0.0)]
)
def test_the_logits_teach_where_labels_are_few(labels, expected):
    assert logit_weight(labels) == pytest.approx(expected)

"""LabelTerm: smoothing, weights of classes and shares of mixed labels, against a slow reference."""

import math

import pytest
import torch

from mgd.data.mixing import as_shares
from mgd.engine.tasks.label_term import LabelTerm

LOGITS = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
LABELS = torch.tensor([2, -1, 0, 3, 3])
WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 0.25])


def slowly(logits, shares, smoothing, weights):
    """Returns the loss of one image, in plain Python."""
    scores = [math.exp(value) for value in logits.tolist()]
    of_label = sum(shares)
    return sum(
        -weight
        * ((1 - smoothing) * share + smoothing * of_label / len(shares))
        * math.log(score / sum(scores))
        for score, share, weight in zip(scores, shares, weights, strict=True)
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("is_mixed", [False, True])
def test_the_loss_equals_the_reference(smoothing, weights, is_mixed):
    shares = as_shares(LABELS, 4)
    if is_mixed:
        shares = 0.7 * shares + 0.3 * shares.roll(1, 0)
    found = LabelTerm(1.0, smoothing, weights).loss(LOGITS, shares if is_mixed else LABELS)
    each = weights.tolist() if weights is not None else [1.0] * 4
    expected = [
        slowly(row, of_image, smoothing, each)
        for row, of_image in zip(LOGITS, shares.tolist(), strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("term", [LabelTerm(), LabelTerm(0.5, 0.1, WEIGHTS)])
def test_an_image_without_a_label_counts_nothing(term):
    for labels in (LABELS, as_shares(LABELS, 4)):
        assert (term.loss(LOGITS, labels) == 0).tolist() == [False, True, False, False, False]


def test_the_loss_is_linear_in_the_shares():
    """Mixed images count as the two labels would, each by its share."""
    term, other = LabelTerm(2.0, 0.1, WEIGHTS), LABELS.roll(1)
    mixed = 0.6 * as_shares(LABELS, 4) + 0.4 * as_shares(other, 4)
    apart = 0.6 * term.loss(LOGITS, LABELS) + 0.4 * term.loss(LOGITS, other)
    torch.testing.assert_close(term.loss(LOGITS, mixed), apart)


def test_a_half_precision_student_gets_a_loss_in_float32():
    shares = as_shares(LABELS, 4)
    for labels in (LABELS, shares):
        assert LabelTerm(1.0, 0.1).loss(LOGITS.bfloat16(), labels).dtype == torch.float32

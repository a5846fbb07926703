"""Short logits: 16 bits, the likeliest classes, and an even share for each of the others."""

import numpy as np
import pytest
import torch

import mgd
from mgd.tensors.short_logits import LEAST, lengthen, shorten

LOGITS = 4 * torch.randn(5, 9, generator=torch.Generator().manual_seed(3))


def there_and_back(logits, most):
    values, classes = shorten(logits, most)
    assert values.dtype == torch.float16
    return lengthen(values, classes, logits.shape[1])


def by_hand(logits, most):
    """The same in float64, one image and one class after the other."""
    found = []
    for row in logits.double().numpy():
        order = np.argsort(-row, kind="stable")
        others = np.log(np.mean(np.exp(row[order[most:]] - row.max())))
        found.append([row[k] - row.max() if k in order[:most] else others for k in range(len(row))])
    return torch.tensor(np.array(found))


@pytest.mark.parametrize("most", [1, 2, 8])
def test_equal_to_the_slow_way(most):
    found, wanted = there_and_back(LOGITS, most).double(), by_hand(LOGITS, most)
    assert ((found - wanted).abs() <= wanted.abs() / 2048 + 1e-7).all()


@pytest.mark.parametrize("most", [9, 100])
def test_few_classes_are_all_kept(most):
    values, classes = shorten(LOGITS, most)
    assert values.shape == (5, 9)
    assert classes is None
    wanted = LOGITS - LOGITS.amax(1, keepdim=True)
    torch.testing.assert_close(lengthen(values, None, 9), wanted, rtol=1 / 2048, atol=1e-7)


def test_the_probability_of_the_kept_classes_and_of_all_others_stays():
    found, whole = there_and_back(LOGITS, 3).softmax(1), LOGITS.softmax(1)
    likeliest = whole.topk(3).indices
    torch.testing.assert_close(
        found.gather(1, likeliest), whole.gather(1, likeliest), rtol=5e-3, atol=0
    )
    others = found.scatter(1, likeliest, -1)
    for row in others:
        assert len(set(row[row >= 0].tolist())) == 1


@pytest.mark.parametrize("loss", ["kd", "dist", "standardised"])
def test_a_number_added_to_all_logits_of_an_image_changes_no_loss(loss):
    """So that the largest can be taken from all."""
    student = torch.randn(5, 9, generator=torch.Generator().manual_seed(4))
    choice = mgd.LOGIT_LOSSES[loss].loss
    short = choice(student, there_and_back(LOGITS + 20, 9), 1.5)
    torch.testing.assert_close(short, choice(student, LOGITS, 1.5), rtol=5e-3, atol=1e-3)


def test_what_is_impossible_stays_a_number_and_impossible():
    logits = LOGITS.clone()
    logits[:, 2], logits[:, 4] = -torch.inf, -1e6
    found = there_and_back(logits, 9)
    assert found.isfinite().all()
    assert (found[:, [2, 4]] == LEAST).all()
    torch.testing.assert_close(found.softmax(1), logits.softmax(1), rtol=1e-2, atol=1e-7)
    assert there_and_back(logits, 3).isfinite().all()


def test_what_is_no_number_stays_so():
    logits = LOGITS.clone()
    logits[1, 3] = torch.nan
    assert shorten(logits, 9)[0][1].isnan().all()

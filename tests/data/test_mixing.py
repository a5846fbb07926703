"""Mixing: what an image is made of, its labels say; what is drawn is drawn for the step alone."""

import pytest
import torch
from torchvision.transforms.v2.functional import to_dtype

from mgd.data.mixing import BatchMixing, as_shares, largest_class

CLASSES = 6
IMAGES = torch.randint(
    256, (6, 3, 12, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
FLOATS = to_dtype(IMAGES, torch.float32, scale=True)
LABELS = torch.arange(6)
MIXUP, CUTMIX = {"mixup_alpha": 0.8}, {"cutmix_alpha": 1.0}
STEPS = [(0, 0), (0, 1), (3, 7)]


def mixing(seed=0, **alphas):
    return BatchMixing(CLASSES, seed, **alphas)


def share_of(labels):
    """Returns the share of each image's own label, where labels are 0, 1, 2, ..."""
    (share,) = set(labels.diagonal().tolist())
    return share


def test_without_an_alpha_a_batch_stays_the_very_same():
    batch = IMAGES, LABELS
    assert mixing()(batch, 0, 0) is batch


@pytest.mark.parametrize("place", STEPS)
def test_mixup_is_the_mean_of_two_neighbours_by_the_share_that_the_labels_say(place):
    images, labels = mixing(**MIXUP)((IMAGES, LABELS), *place)
    share = share_of(labels)
    assert 0 < share < 1
    for number in range(6):
        expected = share * FLOATS[number] + (1 - share) * FLOATS[number - 1]
        torch.testing.assert_close(images[number], expected, atol=1e-6, rtol=0)
        assert labels[number, (number - 1) % 6] == pytest.approx(1 - share, abs=1e-6)


def test_cutmix_pastes_a_rectangle_whose_area_the_labels_say():
    shares = set()
    for step in range(20):
        images, labels = mixing(**CUTMIX)((IMAGES, LABELS), 0, step)
        share = share_of(labels)
        from_other = (images[2] != FLOATS[2]).any(0)
        assert torch.equal(images[2][:, from_other], FLOATS[1][:, from_other])
        rows, columns = from_other.any(1).sum(), from_other.any(0).sum()
        assert from_other.sum() == rows * columns
        assert float(from_other.float().mean()) == pytest.approx(1 - share, abs=1e-6)
        torch.testing.assert_close(labels.sum(1), torch.ones(6))
        shares.add(round(share, 4))
    assert len(shares) > 10


@pytest.mark.parametrize("alphas", [MIXUP, CUTMIX])
def test_what_has_no_label_has_a_share_in_no_class(alphas):
    labels = torch.tensor([4, -1, -1, 2, -1, -1])
    _, mixed = mixing(**alphas)((IMAGES, labels), 1, 2)
    _, known = mixing(**alphas)((IMAGES, LABELS), 1, 2)
    share = share_of(known)
    expected = torch.zeros(6, CLASSES)
    expected[0, 4] = expected[3, 2] = share
    expected[1, 4] = expected[4, 2] = 1 - share
    torch.testing.assert_close(mixed, expected)
    # So the cross-entropy of a batch counts as many labels as there are.
    assert float(mixed.sum()) == pytest.approx(2)


@pytest.mark.parametrize("alphas", [MIXUP, CUTMIX])
@pytest.mark.parametrize("label", [3, -1])
def test_an_image_alone_in_its_batch_is_mixed_with_itself(alphas, label):
    """The last batch may have one image, and so may a rank's share of a batch."""
    images, labels = mixing(**alphas)((IMAGES[:1], torch.tensor([label])), 0, 4)
    torch.testing.assert_close(images, FLOATS[:1])
    expected = as_shares(torch.tensor([label]), CLASSES)
    torch.testing.assert_close(labels, expected)


def test_each_batch_takes_one_of_two_kinds():
    both = mixing(**MIXUP, **CUTMIX)
    is_pasted = []
    for step in range(30):
        images, _ = both((IMAGES, LABELS), 0, step)
        is_pasted.append(bool(torch.isin(images[2], FLOATS[1:3]).all()))
    assert 5 < sum(is_pasted) < 25


@pytest.mark.parametrize("alphas", [MIXUP, CUTMIX, {**MIXUP, **CUTMIX}])
def test_the_draw_is_that_of_seed_epoch_and_step_whatever_was_drawn_before(alphas):
    torch.manual_seed(1)
    first = mixing(**alphas)((IMAGES, LABELS), 2, 5)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again = mixing(**alphas)((IMAGES, LABELS), 2, 5)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    others = [mixing(**alphas)((IMAGES, LABELS), *place)[1] for place in ((2, 6), (3, 5))]
    others.append(mixing(seed=1, **alphas)((IMAGES, LABELS), 2, 5)[1])
    assert not any(torch.equal(other, first[1]) for other in others)


@pytest.mark.parametrize("alphas", [MIXUP, CUTMIX])
def test_ranks_mix_by_the_same_share_each_within_its_own(alphas):
    parts = [(IMAGES[rank::2], LABELS[rank::2]) for rank in range(2)]
    mixed = [mixing(**alphas)(part, 1, 1)[1] for part in parts]
    (own,) = {float(rows[0, label]) for rows, label in zip(mixed, (0, 1), strict=True)}
    assert 0 <= own < 1
    assert mixed[0][:, 1::2].sum() == mixed[1][:, ::2].sum() == 0


def test_the_largest_class_is_that_of_the_largest_share():
    shares = torch.tensor([[0.2, 0.8, 0.0], [0.0, 0.0, 0.0], [0.1, 0.0, 0.0]])
    assert largest_class(shares).tolist() == [1, -1, 0]
    labels = torch.tensor([2, -1, 0])
    assert largest_class(labels) is labels
    assert torch.equal(largest_class(as_shares(labels, 3)), labels)

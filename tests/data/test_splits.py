"""Cuts of a data set: stratified, reproducible, without overlap."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from mgd.data.splits import Joined, Labelled, Splits, Subset, TensorSplit
from mgd.errors import InputError


def data(counts=(40, 20, 10), valid=6):
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    images = torch.arange(len(labels)).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    names = [str(label) for label in range(len(counts))]
    return Splits(names, TensorSplit(images, labels), TensorSplit(images[:valid], labels[:valid]))


def numbers(split):
    """Which images of the whole a part holds."""
    return [int(split.image(index)[0, 0, 0]) for index in range(len(split))]


def test_hold_out_takes_its_share_of_each_class():
    whole = data()
    cut = whole.hold_out(0.1, seed=0)
    assert Counter(cut.valid.labels) == {0: 4, 1: 2, 2: 1}
    assert Counter(cut.train.labels) == {0: 36, 1: 18, 2: 9}
    assert sorted(numbers(cut.train) + numbers(cut.valid)) == list(range(70))


def test_hold_out_makes_the_old_valid_the_test():
    whole = data()
    cut = whole.hold_out(0.1, seed=0)
    assert cut.test is whole.valid
    assert cut.hold_out(0.1, seed=0).test is whole.valid


def test_labels_follow_their_images():
    whole = data()
    cut = whole.hold_out(0.3, seed=1)
    for part in (cut.train, cut.valid):
        assert part.labels == [whole.train.labels[number] for number in numbers(part)]


def test_the_seed_alone_decides():
    torch.manual_seed(1)
    first = numbers(data().hold_out(0.2, seed=5).valid)
    torch.manual_seed(2)
    assert numbers(data().hold_out(0.2, seed=5).valid) == first
    assert numbers(data().hold_out(0.2, seed=6).valid) != first


@pytest.mark.parametrize("counts", [(1, 1), (40, 1)])
def test_hold_out_that_leaves_a_class_without_images_is_an_error(counts):
    with pytest.raises(InputError, match=r"`share` \(=0\.1\) leaves class '\d' no training image"):
        data(counts).hold_out(0.1, seed=0)


def test_take_keeps_the_same_share_of_each_class():
    taken = data().take(35, seed=0)
    assert Counter(taken.train.labels) == {0: 20, 1: 10, 2: 5}
    assert len(taken.valid) == 6
    assert set(numbers(taken.train)) < set(range(70))


def test_take_all_is_all():
    assert numbers(data().take(70, seed=0).train) == list(range(70))


@pytest.mark.parametrize("count", [2, 71])
def test_take_needs_one_a_class_and_no_more_than_there_are(count):
    with pytest.raises(InputError, match=rf"`num_images` \(={count}\) must be from 3,.* to 70"):
        data().take(count, seed=0)


def test_cuts_of_cuts_name_the_file_of_the_whole():
    class Named(TensorSplit):
        def name(self, index):
            return f"file {index}"

    whole = data()
    named = Splits(whole.classes, Named(whole.train.images, whole.train.labels), whole.valid)
    part = named.hold_out(0.5, seed=0).take(9, seed=0).train
    assert [part.name(index) for index in range(len(part))] == [
        f"file {number}" for number in numbers(part)
    ]


def test_classes_get_the_numbers_of_a_network_that_knows_them_by_name():
    whole = replace(data(), test=data().valid)
    turned = whole.with_classes(["2", "more", "0", "1"])
    assert turned.classes == ["2", "more", "0", "1"]
    for part in ("train", "valid", "test"):
        before, after = getattr(whole, part), getattr(turned, part)
        assert [whole.classes[label] for label in before.labels] == [
            turned.classes[label] for label in after.labels
        ]
        assert numbers(after) == numbers(before)
        assert after.name(3) == before.name(3)


def test_the_same_classes_are_the_same_splits():
    whole = data()
    assert whole.with_classes(tuple(whole.classes)) is whole


def test_a_cut_takes_the_same_images_whatever_the_numbers_of_the_classes():
    cut = data().hold_out(0.1, seed=0).take(20, seed=0)
    turned = cut.with_classes(["1", "2", "0"])
    assert numbers(turned.train) == numbers(cut.train)
    assert numbers(turned.valid) == numbers(cut.valid)


def test_the_digest_is_of_the_images_in_their_order():
    whole, again = data().train, data().train
    assert whole.digest() == again.digest()
    other = TensorSplit(whole.images.clone(), [0] * len(whole))
    assert other.digest() == whole.digest()  # no label takes part
    other.images[7, 1, 0, 1] += 1
    parts = [
        other,
        Subset(whole, range(69)),
        Subset(whole, [1, 0, *range(2, 70)]),
        Joined(whole, data().valid),
        TensorSplit(whole.images.view(-1, 3, 1, 4), whole.labels),
    ]
    assert len({each.digest() for each in (whole, *parts)}) == 6
    same = [
        Subset(whole, range(70)),
        Joined(Subset(whole, range(9)), Subset(whole, range(9, 70))),
        Labelled(whole, [1] * 70),
    ]
    assert {each.digest() for each in same} == {whole.digest()}

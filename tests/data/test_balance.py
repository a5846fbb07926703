"""Balance: weights of classes, and epochs in which rare classes are drawn as often as others."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch

from mgd.data.balance import balanced_weights
from mgd.data.loading import ImageDataset, TrainBatches, build_loader
from mgd.data.splits import TensorSplit
from mgd.data.transforms import train_transform
from mgd.views import View

LABELS = [0] * 60 + [1] * 30 + [2] * 3
CHANCES = balanced_weights(LABELS, 3)[torch.tensor(LABELS)]


def numbers(batches):
    return [[index for _, index in batch] for batch in batches]


def batches(rank=0, ranks=1, **options):
    return TrainBatches(len(LABELS), 16, 5, rank, ranks, chances=CHANCES, **options)


def test_the_weights_are_those_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.utils.class_weight")
    expected = sklearn.compute_class_weight("balanced", classes=np.arange(3), y=np.array(LABELS))
    assert balanced_weights(LABELS, 3).tolist() == pytest.approx(expected.tolist())


def test_their_mean_over_the_images_is_1_and_classes_weigh_alike():
    weights = balanced_weights(LABELS, 5)
    over_images = weights[torch.tensor(LABELS)]
    assert float(over_images.mean()) == pytest.approx(1)
    of_class = [float(over_images[torch.tensor(LABELS) == label].sum()) for label in range(3)]
    assert of_class == pytest.approx([31, 31, 31])
    assert weights[3:].tolist() == [1, 1]


def test_equal_classes_have_the_weight_1():
    assert balanced_weights([0, 1, 2] * 4, 3).tolist() == [1, 1, 1]


def test_an_epoch_draws_each_class_alike():
    count = Counter(LABELS[i] for epoch in range(40) for i in chain(*numbers(batches().at(epoch))))
    assert sum(count.values()) == 40 * len(LABELS)
    for label in range(3):  # 1 240 expected, standard deviation 29
        assert abs(count[label] - 1240) < 120


def test_an_epoch_has_as_many_images_as_before():
    plain = TrainBatches(len(LABELS), 16, 5)
    found = numbers(batches().at(2))
    assert [len(batch) for batch in found] == [plain.batch_size(n) for n in range(len(found))]


def test_seed_and_epoch_alone_decide_and_ranks_and_resumes_agree():
    whole = list(batches().at(3))
    assert list(batches().at(3)) == whole
    assert list(batches().at(4)) != whole
    assert list(batches().at(3, start=2)) == whole[2:]
    shares = [list(batches(rank, 2).at(3)) for rank in range(2)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert sorted(chain(*parts)) == sorted(batch)


@pytest.mark.parametrize("share", [None, 4])
def test_images_without_a_label_are_those_of_other_runs(share):
    options = {"num_unlabelled": 40, "unlabelled_batch": share}
    plain = TrainBatches(len(LABELS), 16, 5, **options)
    for epoch in (0, 3):
        found = [
            [key for key in chain(*each.at(epoch)) if key[1] >= len(LABELS)]
            for each in (batches(**options), plain)
        ]
        assert found[0] == found[1]


def test_an_image_looks_different_each_time_that_an_epoch_shows_it():
    keys = list(chain(*batches().at(3)))
    assert len(set(keys)) == len(keys)
    looks = Counter(index for _, index in keys)
    assert looks.most_common(1)[0][1] > 5
    first = {}
    for epoch, index in keys:
        first.setdefault(index, epoch)
    assert set(first.values()) == {3}


def test_workers_load_the_same():
    images = torch.randint(256, (len(LABELS), 3, 8, 8), dtype=torch.uint8)
    transform = train_transform(View(size=8), "cifar", "ra", 0.5)
    data = ImageDataset(TensorSplit(images, LABELS), transform, seed=1)
    seen = [
        torch.cat([found for found, _ in build_loader(data, batches().at(1), workers)])
        for workers in (0, 2)
    ]
    assert torch.equal(*seen)

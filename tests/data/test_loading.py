"""Who sees which image when: every one once, and under an augmentation of its own."""

from itertools import chain, pairwise

import pytest
import torch
from torchvision.transforms import v2

from mgd.data import load_splits
from mgd.data.loading import EvalBatches, ImageDataset, TrainBatches, build_loader, mix
from mgd.data.splits import TensorSplit
from mgd.data.transforms import train_transform
from mgd.errors import InputError
from mgd.views import View

SIZES = [(1, 1), (10, 10), (10, 3), (10, 64), (23, 5), (100, 7), (97, 96)]


def images_of(batches):
    return [[index for _, index in batch] for batch in batches]


@pytest.mark.parametrize(("num_images", "batch_size"), SIZES)
def test_an_epoch_shows_every_image_once_in_batches_alike(num_images, batch_size):
    batches = TrainBatches(num_images, batch_size, seed=0)
    found = images_of(batches)
    sizes = [len(batch) for batch in found]
    assert sorted(chain(*found)) == list(range(num_images))
    assert len(found) == len(batches) == -(-num_images // batch_size)
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert sizes == [batches.batch_size(number) for number in range(len(found))]


def test_epochs_and_seeds_have_their_own_orders_and_repeat_them():
    batches = TrainBatches(50, 50, seed=0)
    first, second = images_of(batches.at(0)), images_of(batches.at(1))
    assert first != second
    assert images_of(batches.at(0)) == first
    assert images_of(TrainBatches(50, 50, seed=1)) != first
    assert {epoch for batch in batches.at(3) for epoch, _ in batch} == {3}


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_out_each_batch(ranks):
    whole = images_of(TrainBatches(23, 8, seed=4).at(2))
    shares = [images_of(TrainBatches(23, 8, 4, rank, ranks).at(2)) for rank in range(ranks)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert sorted(chain(*parts)) == sorted(batch)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_too_many_ranks_for_a_batch_are_refused():
    TrainBatches(8, 4, 0, ranks=4)
    with pytest.raises(InputError, match="raise `batch_size` or lower `ranks`"):
        TrainBatches(7, 4, 0, ranks=4)


def test_a_start_leaves_out_what_was_seen():
    whole = images_of(TrainBatches(23, 5, seed=0).at(1))
    rest = TrainBatches(23, 5, seed=0).at(1, start=2)
    assert images_of(rest) == whole[2:]
    assert len(rest) == 3


@pytest.mark.parametrize(("num_images", "batch_size"), SIZES)
@pytest.mark.parametrize("ranks", [1, 2, 5])
@pytest.mark.parametrize("seed", [None, 3])
def test_an_evaluation_counts_every_image_once(num_images, batch_size, ranks, seed):
    shares = [EvalBatches(num_images, batch_size, rank, ranks, seed) for rank in range(ranks)]
    found = [images_of(share) for share in shares]
    assert sorted(chain(*chain(*found))) == list(range(num_images))
    for share, batches in zip(shares, found, strict=True):
        assert len(share) == len(batches)
        assert all(0 < len(batch) <= batch_size for batch in batches)


def test_an_evaluation_is_in_order_and_a_sample_is_not():
    assert images_of(EvalBatches(10, 4)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    sample = images_of(EvalBatches(10, 4, seed=1))
    assert sample == images_of(EvalBatches(10, 4, seed=1))
    assert sample != images_of(EvalBatches(10, 4))


def test_seeds_of_neighbours_do_not_meet():
    keys = [(s, e, i) for s in range(12) for e in range(12) for i in range(200)]
    seeds = [mix(*key) for key in keys]
    assert len(set(seeds)) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)


def dataset(seed=0, size=8):
    return ImageDataset(
        load_splits("digits").valid, train_transform(View(size=size), "cifar"), seed
    )


def test_an_augmentation_depends_on_seed_epoch_and_number_alone():
    first = dataset()[(3, 5)][0]
    torch.manual_seed(99)
    torch.rand(7)
    assert torch.equal(dataset()[(3, 5)][0], first)


@pytest.mark.parametrize("vary", ["seed", "epoch", "index"])
def test_an_augmentation_varies_with_each_of_them(vary):
    image = torch.arange(192, dtype=torch.uint8).view(3, 8, 8)
    same = TensorSplit(image.expand(30, 3, 8, 8), [0] * 30)
    transform = train_transform(View(size=8), "cifar")
    seen = set()
    for number in range(30):
        key = {"seed": 0, "epoch": 0, "index": 0, vary: number}
        data = ImageDataset(same, transform, key["seed"])
        seen.add(bytes(data[(key["epoch"], key["index"])][0].numpy()))
    assert len(seen) > 8  # of 18: nine shifts, each flipped or not


def test_loading_leaves_the_generator_of_the_run_alone():
    before = torch.get_rng_state()
    data = dataset()
    for _ in build_loader(data, TrainBatches(20, 5, 0), workers=0):
        pass
    for _ in build_loader(data, EvalBatches(20, 5), workers=0):
        pass
    assert torch.equal(torch.get_rng_state(), before)


def test_an_error_gives_the_generator_back():
    def fail(image):
        torch.rand(1)
        raise ValueError

    data = ImageDataset(load_splits("digits").valid, v2.Lambda(fail), 0)
    before = torch.get_rng_state()
    with pytest.raises(ValueError):  # noqa: PT011
        data[(0, 0)]
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_change_nothing_of_what_is_seen():
    seen = []
    for workers in (0, 2):
        data = dataset(seed=7)
        loader = build_loader(data, TrainBatches(40, 6, seed=7), workers)
        epochs = []
        for epoch in (0, 1):
            loader.batch_sampler.at(epoch)
            epochs += [torch.cat([images for images, _ in loader])]
        seen.append(epochs)
        labels = torch.cat([labels for _, labels in loader])
        assert sorted(labels.tolist()) == sorted(data.split.labels[:40])
    for alone, worked in zip(*seen, strict=True):
        assert torch.equal(alone, worked)
    assert all(not torch.equal(*pair) for pair in pairwise(seen[0]))


def test_with_fixed_views_an_epoch_shows_those_of_an_earlier_one_in_an_order_of_its_own():
    batches, plain = TrainBatches(23, 5, seed=3, views=3), TrainBatches(23, 5, seed=3)
    for epoch in range(7):
        found, orders = list(batches.at(epoch)), list(plain.at(epoch))
        assert {view for batch in found for view, _ in batch} == {epoch % 3}
        assert [[n for _, n in batch] for batch in found] == [[n for _, n in b] for b in orders]

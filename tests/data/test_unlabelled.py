"""Images without labels: where they come from, and which batches they are part of."""

import shutil
from itertools import chain

import pytest
import torch

from mgd.data import load_label_free, load_splits, load_unlabelled, seen_elsewhere
from mgd.data.check import drop_bad_images
from mgd.data.loading import TrainBatches, mix
from mgd.errors import InputError


def numbers(batches):
    return [[index for _, index in batch] for batch in batches]


@pytest.mark.parametrize(("count", "size"), [(1, 1), (23, 5), (100, 7)])
def test_without_them_the_batches_are_those_of_version_0_2(count, size):
    for epoch in (0, 3):
        generator = torch.Generator().manual_seed(mix(5, epoch, count))
        order = torch.randperm(count, generator=generator)
        earlier = [part.tolist() for part in order.tensor_split(-(-count // size))]
        assert numbers(TrainBatches(count, size, seed=5).at(epoch)) == earlier


@pytest.mark.parametrize(
    ("labelled", "unlabelled", "size"),
    [(10, 10, 7), (5, 20, 4), (2, 30, 8), (30, 2, 8), (0, 11, 4), (7, 9, 64)],
)
def test_an_epoch_has_each_image_once_in_equal_shares(labelled, unlabelled, size):
    batches = TrainBatches(labelled, size, seed=1, num_unlabelled=unlabelled)
    found = numbers(batches.at(2))
    assert sorted(chain(*found)) == list(range(labelled + unlabelled))
    assert len(found) == -(-(labelled + unlabelled) // size)
    with_label = [sum(index < labelled for index in batch) for batch in found]
    without = [len(batch) - few for batch, few in zip(found, with_label, strict=True)]
    sizes = list(map(len, found))
    assert max(sizes) <= size
    for counts in (sizes, with_label, without):
        assert max(counts) - min(counts) <= 1
    assert sizes == [batches.batch_size(n) for n in range(len(found))]
    assert with_label == [batches.labelled(n) for n in range(len(found))]


@pytest.mark.parametrize("share", [2, 5, 12])
def test_a_number_in_each_batch_goes_on_over_epochs(share):
    def make():
        return TrainBatches(10, 4, seed=1, num_unlabelled=5, unlabelled_batch=share)

    batches = make()
    flow, epochs = [], 10
    for epoch in range(epochs):
        found = numbers(batches.at(epoch))
        assert sorted(i for batch in found for i in batch if i < 10) == list(range(10))
        for number, batch in enumerate(found):
            without = [index for index in batch if index >= 10]
            assert len(without) == share
            assert len(batch) == batches.batch_size(number)
            assert len(batch) - share == batches.labelled(number)
            flow += without
    passes = [flow[i : i + 5] for i in range(0, len(flow) - 4, 5)]
    assert len(passes) == epochs * 3 * share // 5
    assert all(sorted(each) == list(range(10, 15)) for each in passes)
    assert len(set(map(tuple, passes))) > 1
    # A function of seed, epoch and number alone, whatever was drawn before.
    assert numbers(make().at(7, start=2)) == numbers(batches.at(7))[2:]


@pytest.mark.parametrize("share", [None, 3])
def test_ranks_and_a_resume_see_the_same_batches(share):
    def batches(*rank):
        return TrainBatches(9, 4, 6, *rank, num_unlabelled=14, unlabelled_batch=share)

    whole = numbers(batches().at(2))
    parts = [numbers(batches(rank, 2).at(2)) for rank in range(2)]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert sorted(chain(*shares)) == sorted(batch)
    assert numbers(batches().at(2, start=1)) == whole[1:]


def test_any_tree_is_found_once_and_without_classes(image_folder):
    train = str(image_folder / "train")
    found = load_unlabelled([train, str(image_folder / "train" / "one")])
    assert len(found) == 18
    assert set(found.labels) == {-1}


def test_folders_without_images_or_missing_are_told(tmp_path):
    with pytest.raises(InputError, match=r"`unlabelled` \(=.*gone\) is no folder"):
        load_unlabelled([str(tmp_path / "gone")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty' is no image and holds none"):
        load_unlabelled([str(tmp_path / "empty")])
    with pytest.raises(InputError, match="gone' does not exist; give a folder of images"):
        load_label_free(str(tmp_path / "gone"))


def test_one_that_cannot_be_read_is_left_out_or_told(image_folder, tmp_path):
    from dataclasses import replace

    more = tmp_path / "more"
    shutil.copytree(image_folder / "valid", more)
    (more / "bad.png").write_text("no image")
    splits = replace(load_splits(str(image_folder)), unlabelled=load_unlabelled([str(more)]))
    kept, faults = drop_bad_images(splits, workers=0)
    assert len(faults) == 1
    assert "bad.png" in faults[0]
    assert len(kept.unlabelled) == 12
    assert len(kept.train) == len(splits.train)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "bad.png").write_text("no image")
    splits = replace(splits, unlabelled=load_unlabelled([str(tmp_path / "none")]))
    with pytest.raises(InputError, match="no image of `unlabelled` can be read"):
        drop_bad_images(splits, workers=0)


def test_bad_images_are_dropped_where_nothing_has_a_label(image_folder):
    (image_folder / "train" / "bad.png").write_text("no image")
    kept, faults = drop_bad_images(load_label_free(str(image_folder)), workers=0)
    assert len(faults) == 1
    assert len(kept.unlabelled) == 18


def test_label_free_takes_any_tree(image_folder):
    flat = load_label_free(str(image_folder / "train" / "one"))
    assert (len(flat.unlabelled), len(flat.train), flat.test, flat.classes) == (6, 0, None, [])
    both = load_label_free(str(image_folder))
    assert (len(both.unlabelled), len(both.test)) == (18, 12)
    assert both.classes == ["nought", "one", "two"]
    shutil.move(image_folder / "train" / "one", image_folder / "loose")
    shutil.rmtree(image_folder / "train")
    loose = load_label_free(str(image_folder))
    assert len(loose.unlabelled) == 6
    assert not any("valid" in loose.unlabelled.name(i) for i in range(6))
    shutil.rmtree(image_folder / "loose")
    with pytest.raises(InputError, match="has no images beside those in"):
        load_label_free(str(image_folder))


def test_held_out_images_are_not_trained_on(image_folder):
    whole = load_label_free(str(image_folder))
    cut = whole.hold_out_unlabelled(0.25, seed=3)
    names = [
        {part.name(index) for index in range(len(part))} for part in (cut.unlabelled, cut.valid)
    ]
    assert not names[0] & names[1]
    assert len(names[0] | names[1]) == 18
    assert 4 <= len(cut.valid) <= 5
    with pytest.raises(InputError, match="leaves no image to train on"):
        load_label_free(str(image_folder / "train" / "one")).hold_out_unlabelled(0.99, 0)


def test_the_same_file_is_found_by_its_content(image_folder, tmp_path):
    (tmp_path / "more").mkdir()
    valid = image_folder / "valid" / "one" / "7.png"
    if not valid.exists():
        valid = next((image_folder / "valid" / "one").iterdir())
    shutil.copy(valid, tmp_path / "more" / "other.png")
    other = next((image_folder / "train" / "two").iterdir())
    shutil.copy(other, tmp_path / "more" / "new.png")
    found = seen_elsewhere(
        load_unlabelled([str(tmp_path / "more")]), load_splits(str(image_folder)).valid
    )
    assert found == [(str(tmp_path / "more" / "other.png"), str(valid))]

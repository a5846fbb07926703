"""The embedded digits: three fixed, stratified parts that share no image."""

import pytest
import torch

from mgd.data import load_digits, load_splits


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def test_the_parts_have_their_sizes(digits):
    assert [len(part) for part in (digits.train, digits.valid, digits.test)] == [897, 300, 600]
    assert digits.classes == list("0123456789")
    image = digits.train.image(0)
    assert (image.shape, image.dtype) == ((3, 8, 8), torch.uint8)


def test_every_part_has_every_class_alike(digits):
    for part in (digits.train, digits.valid, digits.test):
        shares = torch.bincount(torch.tensor(part.labels)) / len(part)
        assert shares.min() > 0.09
        assert shares.max() < 0.11


def test_the_parts_are_all_the_scans_and_share_none(digits, scans):
    images, _ = scans
    parts = [digits.train.images, digits.valid.images, digits.test.images]
    found = torch.cat(parts)[:, 0].flatten(1).tolist()
    assert len(set(map(tuple, found))) == len(set(map(bytes, images)))
    assert len(found) == len(images) == 1797


def test_the_split_is_fixed(digits):
    # The first labels of each part, as this test found them when it was written.
    assert digits.train.labels[:12] == [5, 8, 5, 0, 6, 0, 6, 4, 3, 2, 3, 2]
    assert digits.test.labels[:12] == [5, 4, 7, 9, 2, 8, 5, 9, 7, 4, 3, 1]


def test_the_greys_fill_the_range(digits):
    assert digits.train.images.min() == 0
    assert digits.train.images.max() == 255


def test_the_word_is_the_data_set_unless_it_is_a_folder(image_folder, monkeypatch):
    assert len(load_splits("digits").classes) == 10
    image_folder.rename(image_folder.with_name("digits"))
    monkeypatch.chdir(image_folder.parent)
    assert load_splits("digits").classes == ["nought", "one", "two"]

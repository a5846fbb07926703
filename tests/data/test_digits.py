"""The embedded digits: three fixed, stratified parts that share no image."""

import pytest
import torch

from mgd.data import load_digits, load_splits, write_few_labels
from mgd.data.decode import decode


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


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits")
    write_few_labels(root)
    return root


def numbers(folder):
    return sorted(path.stem for path in folder.rglob("*.png"))


def test_teacher_and_student_share_no_image_to_train_on(folders):
    teacher, student = folders / "teacher", folders / "student"
    parts = [teacher / "train", student / "train", folders / "unlabelled", student / "valid"]
    found = [number for part in parts for number in numbers(part)]
    assert [len(numbers(part)) for part in parts] == [500, 200, 497, 600]
    assert len(set(found)) == len(found) == 1797
    assert numbers(teacher / "valid") == numbers(student / "valid")


def test_the_written_images_are_the_scans_in_folders_of_their_class(folders, scans):
    images, labels = scans
    for path in [*(folders / "student" / "train").rglob("*.png")][:20]:
        assert path.parent.name == str(labels[int(path.stem)])
        scan = torch.from_numpy(images[int(path.stem)].copy())  # cut off, not rounded
        assert (decode(str(path)).int() - scan).abs().max() <= 1


def test_the_images_to_test_on_are_those_of_load_digits(folders, digits):
    tested = load_splits(folders / "student").valid
    assert sorted(bytes(tested.image(i)[0].numpy()) for i in range(600)) == sorted(
        bytes(digits.test.image(i)[0].numpy()) for i in range(600)
    )

"""Folders and images as they are found in the wild: used, or one line that names the file."""

import logging
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from counting import operations
from mgd.cli import main
from mgd.data import load_splits
from mgd.data.check import drop_bad_images
from mgd.data.loading import EvalBatches, ImageDataset, build_loader
from mgd.data.transforms import train_transform
from mgd.engine.loop.checkpoint import checksum, load_checkpoint
from mgd.engine.run import train
from mgd.errors import InputError
from mgd.runfolder import read_epochs
from mgd.views import View

RED = (255, 0, 0)


def test_a_folder_that_leads_back_is_entered_once(image_folder, caplog):
    one = image_folder / "train" / "one"
    (one / "again").symlink_to(one)
    (one / "up").symlink_to(image_folder / "train")
    (one / "more").mkdir()
    (image_folder / "train" / "two" / "0.png").rename(one / "more" / "extra.png")
    with caplog.at_level(logging.WARNING):
        splits = load_splits(image_folder)
    names = [splits.train.name(i) for i in range(len(splits.train)) if splits.train.labels[i] == 1]
    assert [Path(name).name for name in names] == [*(f"{i}.png" for i in range(6)), "extra.png"]
    assert "again' links to a folder that was read already" in caplog.text
    assert "up' links to a folder that was read already" in caplog.text


def test_a_class_that_is_a_link_to_the_whole_part_is_named(image_folder):
    (image_folder / "train" / "zero").symlink_to(image_folder / "train")
    with pytest.raises(InputError, match=r"class folder '.*zero' holds no images"):
        load_splits(image_folder)


def test_links_to_images_and_folders_elsewhere_are_followed(image_folder, tmp_path):
    (image_folder / "train" / "one").rename(tmp_path / "elsewhere")
    (image_folder / "train" / "one").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "linked.png").symlink_to(image_folder / "train" / "two" / "0.png")
    assert load_splits(image_folder).train.labels.count(1) == 7


def test_images_come_by_folder_and_then_by_name(image_folder):
    one = image_folder / "train" / "one"
    for folder in ("b", "a"):
        (one / folder).mkdir()
        (one / f"{folder}.png").write_bytes((one / "0.png").read_bytes())
        (one / folder / "z.png").write_bytes((one / "0.png").read_bytes())
    train = load_splits(image_folder).train
    found = [os.path.relpath(train.name(i), one) for i in range(6, 16)]
    assert found == [*(f"{i}.png" for i in range(6)), "a.png", "b.png", "a/z.png", "b/z.png"]


WORDS = ["--size", "8", "--arch", "cifar_resnet8_x0_25", "-b", "10", "-j", "0", "--epochs", "1"]
WORDS += ["--tensorboard", "0"]


def test_names_that_are_no_utf_8(image_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for part in ("train", "valid"):
        odd = os.fsencode(image_folder / part / "two")
        os.rename(odd, odd + b"\xff\xfe")
    first = os.fsencode(image_folder / "train") + b"/two\xff\xfe/"
    os.rename(first + b"2.png", first + b"\xe9.png")
    words = ["train", str(image_folder), *WORDS, "--experiment", "run"]
    assert main(words) == 0
    student = "runs/run/student.safetensors"
    assert main(["evaluate", str(image_folder), *WORDS, "--student-resume", student]) == 0
    scores = Path("runs/evaluate-run/per_class.csv").read_bytes()
    assert b"two\xff\xfe," in scores
    with open(first + b"\xe9.png", "wb") as file:
        file.truncate(0)
    capsys.readouterr()
    assert main([*words[:-1], "again"]) == 2
    assert re.fullmatch(
        r"mgd: cannot read image '[^\n]*[^\n]*\.png' [^\n]*\n", capsys.readouterr().err
    )
    assert main([*words[:-1], "third", "--skip-bad-images"]) == 0
    assert b"two\xff\xfe/\xe9.png" in Path("runs/third/bad_images.txt").read_bytes()


def test_a_run_folder_whose_name_is_no_utf_8(tmp_path, monkeypatch, capfdbinary):
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"r\xff")
    assert main(["train", "digits", *WORDS, "--train-images", "20", "--experiment", name]) == 0
    assert main(["report", os.path.join("runs", name)]) == 0
    assert (tmp_path / "runs" / name / "report.html").exists()


def many_classes(folder, number):
    """Makes a data folder of so many classes, with an image for each part."""
    image = folder / "image.png"
    if not image.exists():
        Image.new("L", (2, 2)).save(image)
    data = folder / f"{number} classes"
    for part in ("train", "valid"):
        for label in range(number):
            (data / part / f"{label:05}").mkdir(parents=True)
            os.link(image, data / part / f"{label:05}" / "0.png")
    return data


def test_many_classes_cost_in_proportion_to_their_number(tmp_path):
    """Were each class compared with all others, twice the classes would cost four times as much."""
    few, many = (many_classes(tmp_path, number) for number in (500, 1000))
    costs = [operations(lambda data=data: load_splits(data)) for data in (few, many)]
    assert costs[1] < 2.5 * costs[0]
    splits = load_splits(many)
    assert len(splits.classes) == len(splits.train) == 1000
    assert splits.train.labels[-1] == 999
    parts = splits.take(1000, seed=0)
    assert len(parts.train) == 1000


def test_fewer_images_than_the_batch(fast_run, image_folder):
    config = fast_run.replace(data=str(image_folder), train_images=0, batch_size=1000, epochs=1)
    (record,) = read_epochs(train(config).folder)
    assert record.losses["loss"] > 0


@pytest.mark.parametrize("augment", ["imagenet", "cifar", "none"])
@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (1, 20_000), (20_000, 30)])
def test_extreme_sizes_go_through_the_whole_pipeline(image_folder, size, augment):
    Image.new("RGB", size, RED).save(image_folder / "train" / "one" / "0.png")
    split = load_splits(image_folder).train
    view = View(size=32)
    for transform in (train_transform(view, augment), view.transform()):
        image, label = ImageDataset(split, transform, seed=0)[0, 6]
        assert image.shape == (3, 32, 32)
        assert label == 1
        assert (image[0] > 200).any()


def mixed_modes(folder):
    """Writes the same red in every mode, each where the images of class `one` are."""
    Image.new("CMYK", (9, 9), (0, 255, 255, 0)).save(folder / "cmyk.jpg")
    Image.new("RGB", (9, 9), RED).convert("P").save(folder / "palette.png")
    Image.new("RGBA", (9, 9), (*RED, 128)).save(folder / "rgba.png")
    Image.fromarray(np.full((9, 9), 65535, np.uint16)).save(folder / "deep.png")
    Image.new("RGB", (9, 9), RED).save(folder / "wrong.png")
    (folder / "wrong.png").rename(folder / "wrong.jpg")
    Image.new("RGB", (1, 1), RED).save(folder / "one_pixel.png")


def test_every_mode_goes_through_the_loader(image_folder):
    mixed_modes(image_folder / "train" / "one")
    split = load_splits(image_folder).train
    dataset = ImageDataset(split, View(size=8, crop="squash").transform(), seed=0)
    loader = build_loader(dataset, EvalBatches(len(split), 100), workers=0)
    ((images, labels),) = list(loader)
    assert images.shape == (24, 3, 8, 8)
    assert (images[labels == 1][-6:, 0] > 230).all()


BAD = {"empty.png": b"", "text.jpg": b"no image\n" * 99, "line\nbreak.png": b"\x89PNG"}


@pytest.fixture
def with_bad_images(image_folder):
    """The digits with 3 bad training images, one of them in the middle, and 1 bad valid one."""
    for name, content in BAD.items():
        (image_folder / "train" / "one" / name).write_bytes(content)
    whole = (image_folder / "valid" / "two" / "7.png").read_bytes()
    (image_folder / "valid" / "two" / "7.png").write_bytes(whole[: len(whole) // 2])
    return image_folder


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_are_found_and_left_out(with_bad_images, workers):
    splits, faults = drop_bad_images(load_splits(with_bad_images), workers)
    assert [len(splits.train), len(splits.valid)] == [18, 11]
    assert splits.train.labels == [0] * 6 + [1] * 6 + [2] * 6
    assert len(faults) == 4
    for index in range(18):
        assert splits.train.image(index).shape == (3, 8, 8)


def test_a_run_counts_and_lists_them(with_bad_images, fast_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["train", str(with_bad_images), *WORDS, "--experiment"]
    assert main([*words, "run"]) == 2
    capsys.readouterr()
    assert main([*words, "skips", "--skip-bad-images"]) == 0
    assert "4 unreadable images left out, listed in runs/skips/bad_images.txt" in (
        capsys.readouterr().out
    )
    lines = Path("runs/skips/bad_images.txt").read_text().splitlines()
    assert len(lines) == 4
    for line, name in zip(lines, ["empty.png", "line break.png", "text.jpg", "7.png"], strict=True):
        assert re.match(rf"cannot read image '.*/{re.escape(name)}' \(", line)


def test_12_bit_images_need_a_word_and_are_left_out_without(
    image_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    deep = image_folder / "train" / "one" / "deep.tiff"
    Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(deep)
    words = ["train", str(image_folder), *WORDS, "--experiment"]
    assert main([*words, "auto"]) == 2
    assert re.fullmatch(
        rf"mgd: image '{deep}' has 16-bit greys, but none above 4000[^\n]* as --bit-depth [^\n]*\n",
        capsys.readouterr().err,
    )
    assert main([*words, "skips", "--skip-bad-images"]) == 0
    (line,) = Path("runs/skips/bad_images.txt").read_text().splitlines()
    assert line.startswith(f"image '{deep}' has 16-bit greys")
    assert main([*words, "said", "--bit-depth", "12"]) == 0
    assert "bit-depth: 12\n" in Path("runs/said/args.yaml").read_text()


def test_leaving_them_out_is_as_if_they_were_never_there(with_bad_images, fast_run):
    """For any number of workers, and over a stop and a resume."""
    config = fast_run.replace(data=str(with_bad_images), train_images=0, skip_bad_images=True)
    skips = train(config.replace(experiment="skips")).folder
    first = train(config.replace(experiment="parts", epochs=1, workers=2)).folder
    assert train(config.replace(experiment="parts", workers=2, resume="auto")).folder == first
    for name in BAD:
        (with_bad_images / "train" / "one" / name).unlink()
    (with_bad_images / "valid" / "two" / "7.png").unlink()
    never = train(config.replace(experiment="never", skip_bad_images=False)).folder
    states = [load_checkpoint(folder / "last.ckpt") for folder in (skips, first, never)]
    for name in set(states[0]) - {"config"}:
        assert len({checksum(state[name]) for state in states}) == 1, name


def test_a_resume_with_other_images_says_so(with_bad_images, fast_run, caplog):
    config = fast_run.replace(data=str(with_bad_images), train_images=0, skip_bad_images=True)
    train(config.replace(experiment="run", epochs=1))
    (with_bad_images / "train" / "two" / "0.png").unlink()
    with caplog.at_level(logging.WARNING):
        train(config.replace(experiment="run", resume="auto"))
    assert "made with 18 training images, there are 17 now" in caplog.text


def test_a_class_without_a_good_image_is_named(image_folder):
    for file in (image_folder / "train" / "one").iterdir():
        file.write_bytes(b"")
    with pytest.raises(InputError, match="no training image of class 'one' can be read"):
        drop_bad_images(load_splits(image_folder), 0)


def test_a_part_without_a_good_image_is_named(image_folder):
    for file in (image_folder / "valid").rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(InputError, match="no image of `valid` can be read"):
        drop_bad_images(load_splits(image_folder), 0)


def test_nothing_is_left_out_of_good_data(image_folder):
    splits = load_splits(image_folder)
    left, faults = drop_bad_images(splits, 0)
    assert faults == []
    assert left.train is splits.train
    assert torch.equal(left.train.image(0), splits.train.image(0))

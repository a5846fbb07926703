"""Image folders: what is missing is named; whatever Pillow opens comes out as RGB."""

import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mgd.data import load_splits
from mgd.data.folder import FolderSplit, load_folder
from mgd.errors import InputError


def fault_of(folder):
    """Loads a folder that cannot be used and returns the message, which is one line."""
    with pytest.raises(InputError) as caught:
        load_splits(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_is_found_in_order(image_folder):
    splits = load_splits(image_folder)
    assert splits.classes == ["nought", "one", "two"]
    assert splits.train.labels == [0] * 6 + [1] * 6 + [2] * 6
    assert splits.valid.labels == [0] * 4 + [1] * 4 + [2] * 4
    assert splits.test is None
    assert splits.train.name(7).endswith("one/1.png")


def test_val_is_accepted_for_valid(image_folder):
    (image_folder / "valid").rename(image_folder / "val")
    assert len(load_splits(image_folder).valid) == 12


def test_no_such_folder(tmp_path):
    message = fault_of(tmp_path / "nowhere")
    assert f"'{tmp_path / 'nowhere'}' does not exist" in message
    assert "digits" in message


@pytest.mark.parametrize("part", ["train", "valid"])
def test_a_part_is_missing(image_folder, part):
    shutil.rmtree(image_folder / part)
    assert "`train` and `valid` (or `val`)" in fault_of(image_folder)


def test_a_part_without_class_folders(image_folder):
    shutil.rmtree(image_folder / "train")
    (image_folder / "train").mkdir()
    (image_folder / "train" / "stray.png").touch()
    assert f"'{image_folder / 'train'}' has no class folders" in fault_of(image_folder)


@pytest.mark.parametrize("name", ["empty", "zzz"])  # in the middle of the classes, and the last
def test_a_class_without_images(image_folder, name):
    for part in ("train", "valid"):
        (image_folder / part / name).mkdir()
    (image_folder / "train" / name / "notes.txt").touch()
    message = fault_of(image_folder)
    assert f"'{image_folder / 'train' / name}' holds no images" in message
    assert ".png" in message


@pytest.mark.parametrize(("part", "other"), [("train", "valid"), ("valid", "train")])
def test_a_class_in_one_part_alone(image_folder, part, other):
    (image_folder / other / "one").rename(image_folder / other / "uno")
    shutil.rmtree(image_folder / other / "uno")
    message = fault_of(image_folder)
    assert f"class 'one' is only in `{part}`" in message
    assert "(1 such classes)" in message


def test_a_single_class_is_an_error(image_folder):
    for part in ("train", "valid"):
        for name in ("nought", "two"):
            shutil.rmtree(image_folder / part / name)
    message = fault_of(image_folder)
    assert f"'{image_folder}' has only one class, 'one'" in message
    assert "train/cat and train/dog" in message


def decode(path):
    pixels = FolderSplit([(str(path), 0)]).image(0)
    assert pixels.dtype == torch.uint8
    assert pixels.shape[0] == 3
    return pixels


RED = (255, 0, 0)
OLD_PILLOW = pytest.mark.needs("an older one cannot read the YCbCr TIFF it wrote", pillow="13")


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("RGB", "png"),
        ("RGBA", "png"),
        ("P", "png"),
        ("CMYK", "tiff"),
        pytest.param("YCbCr", "tiff", marks=OLD_PILLOW),
    ],
)
def test_colours_survive_every_mode(tmp_path, mode, suffix):
    path = tmp_path / f"image.{suffix}"
    Image.new("RGB", (5, 4), RED).convert(mode).save(path)
    pixels = decode(path)
    assert pixels.shape == (3, 4, 5)
    assert (pixels[0] > 240).all()
    assert (pixels[1:] < 25).all()


def test_a_cmyk_jpeg_is_not_inverted(tmp_path):
    Image.new("RGB", (16, 16), RED).convert("CMYK").save(tmp_path / "image.jpg")
    pixels = decode(tmp_path / "image.jpg")
    assert (pixels[0] > 230).all()
    assert (pixels[1:] < 25).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_greys_are_repeated(tmp_path, mode):
    Image.new("L", (5, 4), 255).convert(mode).save(tmp_path / "image.png")
    assert (decode(tmp_path / "image.png") == 255).all()


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_greys_are_scaled_not_clipped(tmp_path, suffix):
    ramp = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(ramp).save(tmp_path / f"image.{suffix}")
    pixels = decode(tmp_path / f"image.{suffix}")
    assert pixels[:, 0].tolist() == [[0, 0, 1, 128, 255]] * 3


def test_a_transparent_palette_gives_no_warning(tmp_path):
    image = Image.new("P", (3, 3))
    image.putpalette([9, 8, 7, 1, 2, 3])
    image.save(tmp_path / "image.png", transparency=bytes([0, 255]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(tmp_path / "image.png")[:, 0, 0].tolist() == [9, 8, 7]


@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (1, 3_000)])
def test_extreme_sizes_decode(tmp_path, size):
    Image.new("RGB", size, RED).save(tmp_path / "image.png")
    assert decode(tmp_path / "image.png").shape == (3, size[1], size[0])


def test_the_ending_of_the_name_does_not_matter(tmp_path):
    Image.new("RGB", (5, 4), RED).save(tmp_path / "image.png")
    (tmp_path / "image.png").rename(tmp_path / "image.jpg")
    assert decode(tmp_path / "image.jpg").shape == (3, 4, 5)


def broken(path, kind):
    if kind == "truncated":
        noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        path.write_bytes({"zero-byte": b"", "text": b"no image at all\n" * 50}[kind])


@pytest.mark.parametrize("kind", ["truncated", "zero-byte", "text"])
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tiff", "bmp"])
def test_a_broken_image_is_named(tmp_path, kind, suffix):
    path = tmp_path / f"broken.{suffix}"
    broken(path, kind)
    with pytest.raises(InputError, match=r"cannot read image '.*broken\.") as caught:
        decode(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_went_away_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read image '.*gone\.png'"):
        decode(tmp_path / "gone.png")


@pytest.mark.parametrize("excess", [1.5, 3])  # Pillow warns of the first and refuses the second
def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch, excess):
    Image.new("L", (100, 100)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(10_000 / excess))
    with pytest.raises(InputError, match=r"cannot read image '.*bomb\.png' .*bomb"):
        decode(tmp_path / "bomb.png")


def test_a_small_image_is_decoded_once(image_folder, monkeypatch):
    split = load_splits(image_folder).train
    first = split.image(0)
    monkeypatch.setattr("mgd.data.folder.decode", lambda *given: pytest.fail(f"decoded {given}"))
    assert (split.image(0) == first).all()


@pytest.mark.parametrize(
    ("size", "room", "again"),
    [(8, 10_000, []), (8, 3 * 8 * 8, ["1"]), (128, 10**9, ["0", "1"])],
)
def test_a_large_image_and_one_too_many_are_decoded_again(tmp_path, monkeypatch, size, room, again):
    monkeypatch.setattr("mgd.data.folder._KEPT_BYTES_TOGETHER", room)
    files = [(str(tmp_path / f"{number}.png"), 0) for number in range(2)]
    for number, (path, _) in enumerate(files):
        Image.new("RGB", (size, size), (number, 0, 0)).save(path)
    split = FolderSplit(files)
    assert [int(split.image(i).amax()) for i in (0, 1)] == [0, 1]
    asked = []

    def decode(path, bit_depth):
        asked.append(Path(path).stem)
        return torch.zeros(3, size, size, dtype=torch.uint8)

    monkeypatch.setattr("mgd.data.folder.decode", decode)
    for index in (0, 1):
        split.image(index)
    assert asked == again


def test_the_digest_changes_with_name_size_time_and_bit_depth_of_a_file(image_folder):
    def digest(**options):
        return load_folder(image_folder, **options).train.digest()

    path = image_folder / "train" / "one" / "3.png"
    found, content, times = [digest()], path.read_bytes(), path.stat().st_mtime_ns
    assert digest() == found[0]
    os.utime(path, ns=(times, times + 1000))
    found.append(digest())
    path.write_bytes(content + b" ")
    os.utime(path, ns=(times, times))
    found.append(digest())
    path.write_bytes(content)
    path.rename(path.with_name("33.png"))
    os.utime(path.with_name("33.png"), ns=(times, times))
    found.append(digest())
    found.append(digest(bit_depth=12))
    assert len(set(found)) == len(found)
    path.with_name("33.png").rename(path)
    assert digest() == found[0]


def test_an_image_that_is_gone_is_told_of(image_folder):
    split = load_folder(image_folder).train
    (image_folder / "train" / "one" / "3.png").unlink()
    with pytest.raises(InputError, match=r"3\.png' cannot be read"):
        split.digest()

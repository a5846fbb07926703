"""Image files become upright uint8 RGB; depths beyond 8 bits are scaled or refused."""

import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from mgd.data import load_splits
from mgd.data.decode import decode
from mgd.errors import InputError


def refusal(path, bit_depth="auto"):
    """Decodes a file that cannot be used; returns the message: one line that names the file."""
    with pytest.raises(InputError) as caught:
        decode(str(path), bit_depth)
    message = str(caught.value)
    assert f"'{path}'" in message
    assert "\n" not in message
    return message


def grey(path, bit_depth="auto"):
    """Decodes a grey file and returns its values, (H, W)."""
    pixels = decode(str(path), bit_depth)
    assert pixels.dtype == torch.uint8
    assert torch.equal(pixels, pixels[:1].expand(3, -1, -1))
    return pixels[0].tolist()


# Orientation

UPRIGHT = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
STORED = {
    1: UPRIGHT,
    2: np.fliplr(UPRIGHT),
    3: np.rot90(UPRIGHT, 2),
    4: np.flipud(UPRIGHT),
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT, 1),
    7: np.rot90(UPRIGHT.T, 2),
    8: np.rot90(UPRIGHT, -1),
}
"""EXIF orientation -> the rows as the file has them, from the table in the standard (tag 274)."""


def oriented(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
def test_every_orientation_comes_out_upright(tmp_path, orientation, suffix):
    path = tmp_path / f"image.{suffix}"
    pixels = np.ascontiguousarray(STORED[orientation])
    lossless = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(pixels).convert("RGB").save(path, exif=oriented(orientation), **lossless)
    assert grey(path) == UPRIGHT.tolist()


@pytest.mark.parametrize("compression", [None, "tiff_deflate"])
@pytest.mark.parametrize("orientation", STORED)
def test_a_grey_tiff_is_turned_and_not_scrambled(tmp_path, orientation, compression):
    image = Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    image.save(tmp_path / "image.tiff", exif=oriented(orientation), compression=compression)
    assert grey(tmp_path / "image.tiff") == UPRIGHT.tolist()


@pytest.mark.parametrize("part", ["train", "valid"])
def test_a_photo_is_upright_in_every_part(image_folder, part):
    upright = np.zeros((16, 32), np.uint8)
    upright[:, 24:] = 255
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))
    stored.save(image_folder / part / "nought" / "0.jpg", exif=oriented(6))
    split = getattr(load_splits(image_folder), part)
    (index,) = (index for index in range(len(split)) if split.name(index).endswith("0.jpg"))
    assert split.image(index).shape == (3, 16, 32)
    assert split.image(index)[0, :, 28].min() > 200
    assert split.image(index)[0, :, 4].max() < 50


@pytest.mark.parametrize(("mode", "factor"), [("P", 1), ("I;16", 257), ("F", 1)])
def test_every_depth_is_turned(tmp_path, mode, factor):
    path = tmp_path / ("image.png" if mode == "P" else "image.tiff")
    stored = np.ascontiguousarray(STORED[6])
    if mode == "P":
        image = Image.fromarray(stored).convert("P")
    else:
        image = Image.fromarray(stored.astype({"I;16": np.uint16, "F": np.float32}[mode]) * factor)
    assert image.mode == mode
    image.save(path, exif=oriented(6))
    assert grey(path) == UPRIGHT.tolist()


def exif_block(*tags):
    """Returns an EXIF block of (tag, type, value as 4 bytes), sound or not."""
    entries = b"".join(struct.pack(">HHI", tag, kind, 1) + value for tag, kind, value in tags)
    return b"Exif\0\0MM\0*" + struct.pack(">IH", 8, len(tags)) + entries + bytes(4)


QUARTER = (274, 3, b"\0\6\0\0")
BROKEN = {
    "no TIFF header": (b"Exif\0\0garbage", False),
    "cut in the header": (b"Exif\0\0MM", False),
    "cut in the tags": (exif_block(QUARTER)[:20], False),
    "an orientation that is text": (exif_block((274, 2, b"6\0\0\0")), False),
    "an unknown orientation": (exif_block((274, 3, b"\0\x63\0\0")), False),
    "a tag of the wrong type": (exif_block((256, 2, b"a\0\0\0"), QUARTER), True),
    "a number for a date": (exif_block(QUARTER, (306, 11, bytes(4))), True),
    "a negative place": (exif_block(QUARTER, (34665, 9, b"\xff" * 4)), True),
}
"""Broken EXIF blocks, and whether an orientation can be read in them."""


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_exif_stops_no_readable_image(tmp_path, kind, suffix):
    block, is_turned = BROKEN[kind]
    path = tmp_path / f"image.{suffix}"
    Image.new("RGB", (8, 6), (255, 0, 0)).save(path, exif=block)
    pixels = decode(str(path))
    assert pixels.shape == ((3, 8, 6) if is_turned else (3, 6, 8))
    assert (pixels[0] > 240).all()


# Greys of 16 bits


def save_greys(path, values, **options):
    if path.suffix == ".pgm":
        path.write_bytes(b"P5 %d 1 65535\n" % len(values) + np.array(values, ">u2").tobytes())
    else:
        Image.fromarray(np.array([values], np.uint16)).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
@pytest.mark.parametrize("largest", [1, 255, 1023, 4095])
def test_16_bit_greys_that_look_like_fewer_bits_are_refused(tmp_path, suffix, largest):
    message = refusal(save_greys(tmp_path / f"image.{suffix}", [0, largest]))
    assert f"none above {largest}" in message
    assert "`bit_depth`" in message


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_16_bit_greys_that_use_their_bits_or_are_black_are_scaled(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    assert grey(save_greys(path, [0, 255, 256, 4096])) == [[0, 0, 1, 16]]
    assert grey(save_greys(path, [0, 65535])) == [[0, 255]]
    assert grey(save_greys(path, [0, 0])) == [[0, 0]]


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
@pytest.mark.parametrize("bits", range(8, 17))
def test_the_bit_depth_scales_its_whole_range_to_8_bits(tmp_path, suffix, bits):
    path, most = tmp_path / f"image.{suffix}", 2**bits - 1
    assert grey(save_greys(path, [0, most // 2, most]), bits) == [[0, 127, 255]]


@pytest.mark.parametrize("bits", [8, 12, 15])
def test_a_value_above_the_bit_depth_is_refused(tmp_path, bits):
    message = refusal(save_greys(tmp_path / "image.png", [0, 2**bits]), bits)
    assert f"a grey value of {2**bits}, too large for {bits} bits" in message
    assert f"`bit_depth={bits + 1}`" in message


def test_a_tiff_may_state_its_largest_value(tmp_path):
    path = tmp_path / "image.tiff"
    assert grey(save_greys(path, [0, 2048, 4095], tiffinfo={281: 4095})) == [[0, 128, 255]]
    assert grey(save_greys(path, [0, 2048, 4095], tiffinfo={281: 65535})) == [[0, 8, 15]]
    assert grey(path, 12) == [[0, 128, 255]]  # the user knows better
    assert "too large for 12 bits" in refusal(save_greys(path, [4096], tiffinfo={281: 4095}))


def test_the_largest_value_of_one_image_states_no_range(tmp_path):
    path = save_greys(tmp_path / "image.tiff", [0, 3000], tiffinfo={281: 3000})
    assert "none above 3000" in refusal(path)


@pytest.mark.parametrize("bit_depth", ["auto", 12, 16])
def test_a_pgm_is_scaled_by_the_largest_value_of_its_header(tmp_path, bit_depth):
    path = tmp_path / "image.pgm"
    path.write_bytes(b"P5 3 1 4095\n" + struct.pack(">3H", 0, 2048, 4095))
    assert grey(path, bit_depth) == [[0, 128, 255]]
    path.write_bytes(b"P2 3 1 4095\n0 100 200")
    assert grey(path, bit_depth) == [[0, 6, 12]]


def test_a_plain_pgm_of_16_bits_is_judged_by_its_values(tmp_path):
    (tmp_path / "image.pgm").write_bytes(b"P2 3 1 65535\n0 100 200")
    assert "none above 200" in refusal(tmp_path / "image.pgm")


def png_of_16_bits(path, values, kind):
    """Writes (H, W, bands) as PNG of 16 bits, which Pillow cannot; `kind` is PNG's colour type."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks
        )
    )


def tiff(path, width, strips, tags, order="<"):
    """Writes a TIFF of one row from its strips, one of each plane, and tags that Pillow cannot."""
    tags = {256: [width], 257: [1], 259: [1], 262: [1], 278: [1], **tags}
    tags |= {273: [0] * len(strips), 279: [len(strip) for strip in strips]}
    start = 8 + 2 + 12 * len(tags) + 4
    # Values of more than 4 bytes lie between the tags and the strips.
    sizes = [4 * len(values) * (len(values) > 1) for values in tags.values()]
    place = start + sum(sizes)
    for number, strip in enumerate(strips):
        tags[273][number] = place
        place += len(strip)
    entries, beyond = b"", b""
    for tag, values in sorted(tags.items()):
        data = struct.pack(f"{order}{len(values)}I", *values)
        entries += struct.pack(f"{order}HHI", tag, 4, len(values))
        entries += struct.pack(f"{order}I", start + len(beyond)) if len(values) > 1 else data
        beyond += data if len(values) > 1 else b""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    path.write_bytes(head + entries + bytes(4) + beyond + b"".join(strips))


@pytest.mark.parametrize("bit_depth", ["auto", 16])
def test_a_tiff_of_12_bits_says_so_itself(tmp_path, bit_depth):
    tiff(tmp_path / "image.tiff", 2, [b"\x80\x0f\xff"], {258: [12]})
    assert grey(tmp_path / "image.tiff", bit_depth) == [[128, 255]]


def test_a_tiff_whose_tag_has_the_wrong_type_is_named(tmp_path):
    path = tmp_path / "image.tiff"
    tiff(path, 2, [bytes(4)], {258: [16]})
    place_of_pixels, text = struct.pack("<HH", 273, 4), struct.pack("<HH", 273, 2)
    assert path.read_bytes().count(place_of_pixels) == 1
    path.write_bytes(path.read_bytes().replace(place_of_pixels, text))
    assert "cannot read image" in refusal(path)


@pytest.mark.parametrize(("least", "largest"), [(-1, 9000), (0, 65536), (-5, 70000)])
def test_32_bit_greys_beyond_16_bits_are_refused(tmp_path, least, largest):
    Image.fromarray(np.array([[least, largest]], np.int32)).save(tmp_path / "image.tiff")
    message = refusal(tmp_path / "image.tiff", 16)
    assert f"grey values from {least} to {largest}; needed are 0 to 65535" in message


def test_32_bit_greys_within_16_bits_are_as_16_bits(tmp_path):
    path = tmp_path / "image.tiff"
    Image.fromarray(np.array([[0, 65535]], np.int32)).save(path)
    assert grey(path) == [[0, 255]]
    Image.fromarray(np.array([[0, 255]], np.int32)).save(path)
    assert "none above 255" in refusal(path)
    assert grey(path, 8) == [[0, 255]]


# Colours of 16 bits


def save_colours(folder, kind, largest):
    """Saves two pixels, black and `largest` in every colour, in a file of 16 bits a colour."""
    bands = {"png": 3, "png alpha": 4, "png grey alpha": 2, "tiff cmyk": 4}.get(kind, 3)
    values = np.zeros((1, 2, bands), np.uint16)
    values[0, 1] = largest
    path = folder / f"image.{kind.split()[0]}"
    if kind.startswith("png"):
        if "alpha" in kind:
            values[..., -1] = 65535
        png_of_16_bits(path, values, {2: 4, 3: 2, 4: 6}[bands])
    elif kind == "ppm":
        path.write_bytes(b"P6 2 1 65535\n" + values.astype(">u2").tobytes())
    else:
        order = ">" if "big" in kind else "<"
        data = values.astype(f"{order}u2").tobytes()
        tags = {258: [16] * bands, 262: [5 if "cmyk" in kind else 2], 277: [bands]}
        if "deflate" in kind:
            data, tags[259] = zlib.compress(data), [8]
        tiff(path, 2, [data], tags, order)
    return path


COLOURS = ["png", "png alpha", "png grey alpha", "ppm", "tiff", "tiff big", "tiff deflate"]


@pytest.mark.parametrize("kind", [*COLOURS, "tiff cmyk"])
@pytest.mark.parametrize("largest", [1023, 4095])
def test_16_bit_colours_that_look_like_fewer_bits_are_refused(tmp_path, kind, largest):
    message = refusal(save_colours(tmp_path, kind, largest))
    assert "16-bit colours" in message
    assert "none above 4095" in message
    assert "convert the image to 8 bits" in message


@pytest.mark.parametrize("kind", COLOURS)
def test_16_bit_colours_keep_their_high_byte(tmp_path, kind):
    pixels = decode(str(save_colours(tmp_path, kind, 0x80C0)))
    assert pixels.tolist() == [[[0, 128]]] * 3
    pixels = decode(str(save_colours(tmp_path, kind, 0x1100)))
    assert pixels.tolist() == [[[0, 17]]] * 3


@pytest.mark.parametrize("kind", COLOURS)
def test_black_in_16_bits_is_black(tmp_path, kind):
    assert not decode(str(save_colours(tmp_path, kind, 0))).any()


def test_16_bit_colours_in_planes_are_refused(tmp_path):
    """Pillow would take every byte of them for a pixel."""
    plane = struct.pack("<4H", 0, 60000, 30000, 9)
    tags = {258: [16] * 3, 262: [2], 277: [3], 284: [2]}
    tiff(tmp_path / "image.tiff", 4, [plane] * 3, tags)
    assert "16-bit colours in separate planes" in refusal(tmp_path / "image.tiff")


@pytest.mark.parametrize("suffix", ["png", "ppm", "tiff", "bmp", "gif", "webp"])
def test_dark_images_of_8_bits_stay(tmp_path, suffix):
    path = tmp_path / f"image.{suffix}"
    lossless = {"lossless": True} if suffix == "webp" else {}
    Image.new("RGB", (2, 2), (7, 7, 7)).save(path, **lossless)
    assert grey(path) == [[7, 7], [7, 7]]


# Floating point


def save_floats(path, *values):
    Image.fromarray(np.array([values], np.float32)).save(path)
    return path


def test_floats_from_0_to_1_are_scaled_and_from_0_to_255_taken(tmp_path):
    path = tmp_path / "image.tiff"
    assert grey(save_floats(path, 0, 0.25, 0.5, 1)) == [[0, 64, 128, 255]]
    assert grey(save_floats(path, 0, 0.1)) == [[0, 26]]
    assert grey(save_floats(path, 0, 0.6, 1.5, 255)) == [[0, 1, 2, 255]]
    assert grey(save_floats(path, 0, 0)) == [[0, 0]]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ((-0.5, 1), "from -0.5 to 1"),
        ((0, 256), "from 0 to 256"),
        ((0, float("nan"), 1), "from nan to nan"),
        ((0, float("inf")), "from 0 to inf"),
        ((-float("inf"), 1), "from -inf to 1"),
    ],
)
def test_other_floats_are_refused(tmp_path, values, found):
    message = refusal(save_floats(tmp_path / "image.tiff", *values))
    assert f"floating-point values {found}; needed are 0 to 1, or 0 to 255" in message

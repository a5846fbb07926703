"""Decodes image files, as cameras, scanners and microscopes write them, to upright uint8 RGB."""

import re
import warnings
from contextlib import suppress
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from mgd.errors import InputError

BitDepth = int | Literal["auto"]
"""Number of bits that grey values in 16-bit files have."""

_DEEP = re.compile(r";16[BLN]'|', 65535\)")
"""16 bits a sample in the text of Pillow's `tile`: 'RGB;16B', or a PPM's ('RGB', 65535)."""
_LOW = 4095
"""16-bit data without a larger value look like data of at most 12 bits."""
_BITS_PER_SAMPLE, _MAX_SAMPLE_VALUE = 258, 281
"""Tags of a TIFF."""
_TO_8_BITS = "convert the image to 8 bits"


def decode(path: str, bit_depth: BitDepth = "auto") -> Tensor:
    """Decodes an image file to uint8 RGB, (3, H, W), upright as its EXIF orientation says.

    Values of more than 8 bits are scaled to 0 to 255. Where their range cannot be known, the file
    is refused, because a wrong guess would make the image black or white.

    - Greys of N bits are divided by 2^(N - 8).
    - Colours of 16 bits lose their low byte.
    - Floating-point values in [0, 1] are multiplied by 255; values in [0, 255] stay.

    Args:
        path: The file.
        bit_depth: How many bits the grey values in 16-bit files have, from 8 to 16. "auto": as
            many as the file says (a TIFF's MaxSampleValue), else 16 if a value is above 4095. A
            TIFF of 12 bits and a PGM whose header has another largest value than 65535 are always
            scaled by what they say.

    Raises:
        InputError: If the file cannot be read as an image, or if its values have no range that can
            be scaled; the message names the file.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of metadata that it cannot read, which leave the pixels as they are.
            warnings.simplefilter("ignore", UserWarning)
            # An image above Pillow's size limit may be a decompression bomb: make it an error.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                # Pillow 13 maps a TIFF that it knows by name with width and height exchanged if
                # its orientation is a quarter turn: the rows come out scrambled.
                image.filename = ""
                tile = str(image.tile and image.tile[0])  # which loading takes away
                is_deep = _DEEP.search(tile) is not None
                image.load()
                _turn_upright(image)
                if image.mode == "I" or image.mode.startswith("I;16"):
                    return _repeated(_scaled_greys(image, path, bit_depth, is_deep))
                if image.mode == "F":
                    return _repeated(_scaled_floats(image, path))
                _check_colours(image, path, is_deep)
                pixels: Tensor = pil_to_tensor(_to_rgb(image))
                return pixels
    except InputError:
        raise
    except (
        UnidentifiedImageError,
        OSError,
        ValueError,
        SyntaxError,
        TypeError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"cannot read image '{path}' ({reason}); repair or remove the file"
        ) from error


def _turn_upright(image: Image.Image) -> None:
    with suppress(Exception):  # a broken EXIF block raises many kinds; the pixels are whole
        ImageOps.exif_transpose(image, in_place=True)


def _repeated(greys: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(greys).expand(3, -1, -1).contiguous()


def _scaled_greys(
    image: Image.Image, path: str, bit_depth: BitDepth, is_deep: bool
) -> NDArray[np.uint8]:
    values = np.asarray(image.convert("I"))
    least, largest = int(values.min()), int(values.max())
    if least < 0 or largest > 65535:
        raise InputError(
            f"image '{path}' has grey values from {least} to {largest}; needed are 0 to 65535: "
            f"scale them, or {_TO_8_BITS}"
        )
    bits = _num_bits(image, bit_depth, is_deep)
    if bits is None and 0 < largest <= _LOW:
        raise InputError(
            f"image '{path}' has 16-bit greys, but none above {largest}, as if fewer bits were "
            "used; give their number as `bit_depth` (12 for values up to 4095, 16 if the image "
            "is that dark)"
        )
    bits = bits or 16
    if largest >= 2**bits:
        raise InputError(
            f"image '{path}' has a grey value of {largest}, too large for {bits} bits; give "
            f"`bit_depth={largest.bit_length()}` or more if that suits all images, or {_TO_8_BITS}"
        )
    return (values >> (bits - 8)).astype(np.uint8)


def _num_bits(image: Image.Image, bit_depth: BitDepth, is_deep: bool) -> int | None:
    """Returns how many bits the greys have; `None` if neither the file nor the user says it."""
    if image.format == "PPM" and not is_deep:
        return 16  # to which Pillow has scaled them, by the largest value in the header
    if _tag(image, _BITS_PER_SAMPLE) == 12:
        return 12
    if bit_depth != "auto":
        return bit_depth
    # MaxSampleValue may also be the largest value of this one image, which says nothing.
    stated = {2**bits - 1: bits for bits in range(8, 17)}
    return stated.get(_tag(image, _MAX_SAMPLE_VALUE))


def _tag(image: Image.Image, number: int) -> Any:
    """Returns the first value of a TIFF's tag; `None` if there is none, or no TIFF."""
    values = image.tag_v2.get(number) if isinstance(image, TiffImageFile) else None
    return values[0] if values else None


def _scaled_floats(image: Image.Image, path: str) -> NDArray[np.uint8]:
    values = np.asarray(image)
    least, largest = float(values.min()), float(values.max())  # NaN if there is one
    if not 0 <= least <= largest <= 255:
        raise InputError(
            f"image '{path}' has floating-point values from {least:g} to {largest:g}; needed are "
            f"0 to 1, or 0 to 255: scale them, or {_TO_8_BITS}"
        )
    scaled: NDArray[np.uint8] = np.rint(values * (255 if largest <= 1 else 1)).astype(np.uint8)
    return scaled


def _check_colours(image: Image.Image, path: str, is_deep: bool) -> None:
    """Refuses 16-bit colours of which Pillow keeps nothing; it has dropped the low byte of each."""
    if not is_deep:
        if _tag(image, _BITS_PER_SAMPLE) == 16:
            raise InputError(
                f"image '{path}' has 16-bit colours in separate planes without compression, which "
                f"Pillow misreads; {_TO_8_BITS}"
            )
        return
    colours = [name for name in image.getbands() if name != "A"]
    largest = max(np.asarray(image.getchannel(name)).max() for name in colours)
    low = 16 if image.format == "PPM" else 15  # of _LOW; Pillow rounds a PPM's values
    if 0 < largest <= low:
        raise InputError(
            f"image '{path}' has 16-bit colours, but none above {_LOW}, as if fewer bits were "
            f"used; scale them to 16 bits, or {_TO_8_BITS}"
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("P", "PA", "LA", "La", "RGBa"):
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")

"""Maps: feature maps as strips of small pictures, in two colours that fade to nothing at zero."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Maps = npt.NDArray[np.float32]
Pictures = npt.NDArray[np.uint8]

POSITIVE, NEGATIVE = (232, 92, 14), (34, 128, 220)
"""Colours of the strongest values: both stand out on a white page and on a dark one, also for those
who cannot tell red from green."""
TILE, GAP = 32, 2
"""Least side of a picture in a strip, and the space between two, in pixels."""
_ZERO, _NOTHING = 127, 255
"""Places in the palette: of the value 0, and of the space between pictures."""


def limit_of(*maps: Maps) -> float:
    """Returns the value that the strongest colour stands for: 1 % of the values are larger.

    Maps of zeros alone have the limit 1.

    Example:
        >>> limit_of(np.linspace(0, 1, 1001, dtype=np.float32))
        0.99
    """
    values = np.concatenate([np.abs(each).ravel() for each in maps])
    return round(float(np.percentile(values, 99)), 6) or 1.0


def colours() -> npt.NDArray[np.uint8]:
    """Returns red, green, blue and opacity of each place of the palette; (256, 4).

    A value is as opaque as it is strong. So zero has the colour of whatever is behind the picture.
    """
    strength = np.linspace(-1, 1, 2 * _ZERO + 1)
    palette = np.zeros((256, 4), np.uint8)
    palette[: len(strength), :3] = np.where(strength[:, None] > 0, POSITIVE, NEGATIVE)
    palette[: len(strength), 3] = np.rint(255 * np.abs(strength) ** 0.8)
    return palette


def places_of(maps: Maps, limit: float) -> npt.NDArray[np.uint8]:
    """Returns the place in the palette of each value; beyond the limit it is that of the limit."""
    places = np.rint(np.clip(maps / limit, -1, 1) * _ZERO) + _ZERO
    found: npt.NDArray[np.uint8] = places.astype(np.uint8)
    return found


def maps_strip(maps: Maps, limit: float) -> tuple[bytes, tuple[int, int]]:
    """Draws maps (N, height, width) beside each other; returns a PNG file, and (width, height)."""
    strip = _strip(places_of(maps, limit), _NOTHING)
    picture, palette = Image.fromarray(strip), colours()
    picture.putpalette(palette[:, :3].tobytes())  # the grey values become places in it
    return _png(picture, transparency=palette[:, 3].tobytes()), picture.size


def pictures_strip(pictures: Pictures) -> tuple[bytes, tuple[int, int]]:
    """Draws pictures (N, height, width, 3) beside each other; returns as `maps_strip`."""
    opaque = np.full((*pictures.shape[:3], 1), 255, np.uint8)
    strip = _strip(np.concatenate([pictures, opaque], axis=3), 0)
    picture = Image.fromarray(strip)
    return _png(picture), picture.size


def data_uri(png: bytes) -> str:
    """Returns a PNG file as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def tiles_of(size: tuple[int, int], number: int) -> Sequence[tuple[int, int]]:
    """Returns left edge and width of each picture in a strip of a size (width, height)."""
    width = (size[0] - (number - 1) * GAP) // number
    return [(place * (width + GAP), width) for place in range(number)]


def _strip(tiles: npt.NDArray[np.uint8], nothing: int) -> npt.NDArray[np.uint8]:
    """Puts (N, height, width, ...) beside each other, each value as a square of pixels."""
    times = max(1, -(-TILE // max(tiles.shape[1:3])))
    large = tiles.repeat(times, axis=1).repeat(times, axis=2)
    gap = np.full((large.shape[1], GAP, *large.shape[3:]), nothing, np.uint8)
    parts = [part for tile in large for part in (tile, gap)][:-1]
    return np.concatenate(parts, axis=1)


def _png(picture: Image.Image, **options: Any) -> bytes:
    content = io.BytesIO()
    picture.save(content, format="PNG", optimize=True, **options)
    return content.getvalue()

"""Photographs that tests of views look at: scikit-learn's two, as JPEG, and cuts of them."""

import io
from functools import cache

from PIL import Image

# left, top, right, bottom; the photographs have 640 x 427 pixels.
CUTS = {
    "whole": (0, 0, 640, 427),
    "odd": (3, 5, 502, 402),
    "tall": (100, 0, 300, 427),
    "wide": (0, 100, 640, 180),
    "small": (200, 100, 290, 161),
}


@cache
def photos():
    """Returns ten decoded JPEGs, as Pillow's images."""
    from sklearn.datasets import load_sample_images

    found = []
    for pixels in load_sample_images().images:
        for box in CUTS.values():
            data = io.BytesIO()
            Image.fromarray(pixels).crop(box).save(data, "JPEG", quality=90)
            found.append(Image.open(data).convert("RGB"))
    return found

"""How a network sees an image: size, crop, interpolation, colour, mean and standard deviation."""

from mgd.views.view import MEAN, STD, Crop, Interpolation, Preprocess, View

__all__ = ["MEAN", "STD", "Crop", "Interpolation", "Preprocess", "View"]

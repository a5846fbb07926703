"""Exporting a trained network: written to a file, run there on real images, kept if it agrees."""

from mgd.engine.export.images import Images, chosen, images_of
from mgd.engine.export.proof import (
    Measured,
    Proof,
    check_difference,
    check_int8,
    measured_side_by_side,
    prove,
)
from mgd.engine.export.writing import write_network

__all__ = [
    "Images",
    "Measured",
    "Proof",
    "check_difference",
    "check_int8",
    "chosen",
    "images_of",
    "measured_side_by_side",
    "prove",
    "write_network",
]

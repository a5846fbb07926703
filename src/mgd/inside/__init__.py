"""Looking inside a network that is never edited: where to tap it, and what a tap reads."""

from mgd.inside.discovery import MAX_POINTS, discover_points, resolve_points
from mgd.inside.modes import AsGiven, evaluating
from mgd.inside.outputs import logits_of
from mgd.inside.points import (
    PairLike,
    PointList,
    PointPair,
    points_from_plain,
    points_to_plain,
)
from mgd.inside.tap import Tap, find_module, is_activation
from mgd.inside.tapped import TappedModel

__all__ = [
    "MAX_POINTS",
    "AsGiven",
    "PairLike",
    "PointList",
    "PointPair",
    "Tap",
    "TappedModel",
    "discover_points",
    "evaluating",
    "find_module",
    "is_activation",
    "logits_of",
    "points_from_plain",
    "points_to_plain",
    "resolve_points",
]

"""Looking inside a network that is never edited: where to tap it, and what a tap reads."""

from mgd.inside.batches import IMAGE_KEYS, described, find_images, find_labels
from mgd.inside.canvas import Canvas, Images, canvas_of, check_one_canvas
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
from mgd.inside.probe import batch_norm_channels
from mgd.inside.recording import CallRecorder
from mgd.inside.tap import Tap, find_module, is_activation
from mgd.inside.tapped import TappedModel

__all__ = [
    "IMAGE_KEYS",
    "MAX_POINTS",
    "AsGiven",
    "CallRecorder",
    "Canvas",
    "Images",
    "PairLike",
    "PointList",
    "PointPair",
    "Tap",
    "TappedModel",
    "batch_norm_channels",
    "canvas_of",
    "check_one_canvas",
    "described",
    "discover_points",
    "evaluating",
    "find_images",
    "find_labels",
    "find_module",
    "is_activation",
    "logits_of",
    "points_from_plain",
    "points_to_plain",
    "resolve_points",
]

"""Matching Guided Distillation (Yue, Deng, Zhou, ECCV 2020) for PyTorch.

Not Masked Generative Distillation, which shares the letters. https://arxiv.org/abs/2008.09958
"""

from mgd.assignment import SOLVERS, assign
from mgd.discovery import discover_points
from mgd.distance import channel_distance
from mgd.distiller import DistillationPoint, Distilled, Distiller
from mgd.errors import InputError, TapError
from mgd.losses import logit_kd, partial_l2, point_weights
from mgd.margin import margin_from_features, margin_from_norm
from mgd.matcher import ChannelMatcher
from mgd.models import create_model
from mgd.points import PointList, PointPair, points_from_plain, points_to_plain
from mgd.reducers import REDUCERS, Reducer
from mgd.rematch import MatchingReport, RematchSchedule, update_matching
from mgd.taps import Tap, TappedModel

__all__ = [
    "REDUCERS",
    "SOLVERS",
    "ChannelMatcher",
    "DistillationPoint",
    "Distilled",
    "Distiller",
    "InputError",
    "MatchingReport",
    "PointList",
    "PointPair",
    "Reducer",
    "RematchSchedule",
    "Tap",
    "TapError",
    "TappedModel",
    "assign",
    "channel_distance",
    "create_model",
    "discover_points",
    "logit_kd",
    "margin_from_features",
    "margin_from_norm",
    "partial_l2",
    "point_weights",
    "points_from_plain",
    "points_to_plain",
    "update_matching",
]

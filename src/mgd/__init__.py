"""Matching Guided Distillation (Yue, Deng, Zhou, ECCV 2020) for PyTorch.

Not Masked Generative Distillation, which shares the letters. https://arxiv.org/abs/2008.09958
"""

from mgd.assignment import SOLVERS, assign
from mgd.discovery import discover_points
from mgd.distance import channel_distance
from mgd.distillation_point import DistillationPoint, MatchedPoint
from mgd.distiller import Distilled, Distiller
from mgd.errors import InputError, TapError
from mgd.logits import LOGIT_LOSSES, decoupled_kd, dist_kd, logit_kd
from mgd.losses import partial_l2, point_weights
from mgd.margin import margin_from_features, margin_from_norm
from mgd.matcher import ChannelMatcher
from mgd.models import create_model
from mgd.points import PointList, PointPair, points_from_plain, points_to_plain
from mgd.reducers import REDUCERS, Reducer
from mgd.rematch import MatchingReport, RematchSchedule, update_matching
from mgd.taps import Tap, TappedModel

__all__ = [
    "LOGIT_LOSSES",
    "REDUCERS",
    "SOLVERS",
    "ChannelMatcher",
    "DistillationPoint",
    "Distilled",
    "Distiller",
    "InputError",
    "MatchedPoint",
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
    "decoupled_kd",
    "discover_points",
    "dist_kd",
    "logit_kd",
    "margin_from_features",
    "margin_from_norm",
    "partial_l2",
    "point_weights",
    "points_from_plain",
    "points_to_plain",
    "update_matching",
]

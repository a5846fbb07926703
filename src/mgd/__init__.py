"""Matching Guided Distillation (Yue, Deng, Zhou, ECCV 2020) for PyTorch.

Not Masked Generative Distillation, which shares the letters. https://arxiv.org/abs/2008.09958
"""

from mgd.errors import InputError, TapError
from mgd.inside import (
    Canvas,
    PointList,
    PointPair,
    Tap,
    TappedModel,
    discover_points,
    logits_of,
    points_from_plain,
    points_to_plain,
)
from mgd.method.comparison import POINT_LOSSES
from mgd.method.distiller import Distiller
from mgd.method.learner import Distilled, Guidance
from mgd.method.matcher import ChannelMatcher, MatchingReport
from mgd.method.point import DistillationPoint, DistillationPoints, MatchedPoint
from mgd.method.positions import box_weights, score_weights
from mgd.method.rematch import RematchSchedule, update_matching
from mgd.models.creation import create_model
from mgd.models.loading import load_network
from mgd.models.metadata import Metadata
from mgd.tensors.assignment import SOLVERS, assign
from mgd.tensors.distance import channel_distance
from mgd.tensors.logits import (
    LOGIT_LOSSES,
    decoupled_kd,
    dist_kd,
    logit_kd,
    standardised_kd,
)
from mgd.tensors.losses import partial_l2, point_weights, squared_l2
from mgd.tensors.margin import margin_from_features, margin_from_norm
from mgd.tensors.positions import position_kl
from mgd.tensors.reducers import REDUCERS, Reducer
from mgd.version import __version__
from mgd.views import View

__all__ = [
    "LOGIT_LOSSES",
    "POINT_LOSSES",
    "REDUCERS",
    "SOLVERS",
    "Canvas",
    "ChannelMatcher",
    "DistillationPoint",
    "DistillationPoints",
    "Distilled",
    "Distiller",
    "Guidance",
    "InputError",
    "MatchedPoint",
    "MatchingReport",
    "Metadata",
    "PointList",
    "PointPair",
    "Reducer",
    "RematchSchedule",
    "Tap",
    "TapError",
    "TappedModel",
    "View",
    "__version__",
    "assign",
    "box_weights",
    "channel_distance",
    "create_model",
    "decoupled_kd",
    "discover_points",
    "dist_kd",
    "load_network",
    "logit_kd",
    "logits_of",
    "margin_from_features",
    "margin_from_norm",
    "partial_l2",
    "point_weights",
    "points_from_plain",
    "points_to_plain",
    "position_kl",
    "score_weights",
    "squared_l2",
    "standardised_kd",
    "update_matching",
]

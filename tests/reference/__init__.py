"""A slow NumPy version of every formula, in plain loops, to hold the fast one against."""

from reference.assignment import best_cost
from reference.distance import channel_distance
from reference.logits import decoupled_kd, dist_kd, logit_kd, standardised_kd
from reference.losses import partial_l2, partial_l2_gradient, point_weights
from reference.margin import margin_from_features, margin_of_normal
from reference.positions import box_weights, position_kl, weighted_mean
from reference.reducers import reduce_features, reduce_margins

__all__ = [
    "best_cost",
    "box_weights",
    "channel_distance",
    "decoupled_kd",
    "dist_kd",
    "logit_kd",
    "margin_from_features",
    "margin_of_normal",
    "partial_l2",
    "partial_l2_gradient",
    "point_weights",
    "position_kl",
    "reduce_features",
    "reduce_margins",
    "standardised_kd",
    "weighted_mean",
]

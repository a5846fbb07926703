"""Options of the labels: what the cross-entropy makes of them, and how often each class is seen."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from mgd.engine.options.option import TRAINING, Command, Group, option


@dataclass(frozen=True, kw_only=True)
class LabelConfig(Group):
    """Labels."""

    listed_for: ClassVar[tuple[Command, ...]] = TRAINING

    label_smoothing: float = option(
        0.0,
        "share of the label, from 0 to 1, that the cross-entropy spreads evenly over all classes, "
        "such as 0.1",
        least=0,
        most=1,
    )
    class_weights: Literal["none", "balanced"] = option(
        "none",
        "weights of the classes in the cross-entropy. balanced: n / (K n_k) for n training images "
        "in K classes, n_k of them in class k",
    )
    balanced_sampling: bool = option(
        False,
        "draw the images of an epoch so that each class is equally likely: as many as there are, "
        "but some of them several times, each time with other random changes, and others not at "
        "all",
    )

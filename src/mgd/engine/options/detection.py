"""Options of runs of detectors alone."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from mgd.engine.options.option import Command, Group, option


@dataclass(frozen=True, kw_only=True)
class DetectionConfig(Group):
    """Detection."""

    listed_for: ClassVar[tuple[Command, ...]] = ("distill-detector",)

    position_weights: Literal["none", "scores", "boxes"] = option(
        "none",
        "places where the student follows its teacher. none: all alike; scores: the "
        "more, the surer the teacher is of a box there; boxes: in the true boxes, and a tenth as "
        "much outside",
        brief="places where the student follows its teacher",
    )

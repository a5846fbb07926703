"""Answers: what the losses need of a teacher, in a form that no later matching changes.

A teacher that is frozen gives the same answers to the same images. So they can be kept, and used
in place of the teacher.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Num
from torch import Tensor

from mgd.method.distiller import Distiller
from mgd.method.learner import Guidance
from mgd.method.logit_term import ReadyLogits
from mgd.method.point import pool


class Answers(NamedTuple):
    """What the losses need of a teacher for one batch."""

    features: list[Tensor]
    """Of each point (B, T, H, W), all channels, pooled to the size at which they are compared."""
    logits: Float[Tensor, "batch classes"] | None
    """Of the student's classes; `None` where there is no loss on the logits."""


@torch.no_grad()
def ask_teacher(distiller: Distiller, images: Num[Tensor, "batch colours height width"]) -> Answers:
    """Runs the teacher and returns all that is needed of it, whatever the matching.

    Args:
        distiller: Whose teacher is asked.
        images: As `Distiller.forward` takes them, of the size of its example.

    Example:
        >>> import torch, mgd
        >>> from mgd.method.answers import ask_teacher, guidance_from
        >>> teacher = mgd.create_model("cifar_resnet8", num_classes=10)
        >>> student = mgd.create_model("cifar_resnet8_x0_5", num_classes=10)
        >>> images = torch.rand(4, 3, 32, 32)
        >>> with mgd.Distiller(teacher, student, images, kd_weight=1.0) as distiller:
        ...     answers = ask_teacher(distiller.eval(), images)
        ...     kept = distiller.learner(images, None, guidance_from(distiller, answers))
        ...     torch.equal(kept.loss, distiller(images).loss)
        True
    """
    features, output = distiller.frozen_teacher(images)
    pairs, logit_term = distiller.points.pairs, distiller.learner.logit_term
    pooled = [pool(maps, pair.size) for maps, pair in zip(features, pairs, strict=True)]
    return Answers(pooled, logit_term.teachers(output) if logit_term.weight else None)


@torch.no_grad()
def guidance_from(distiller: Distiller, answers: Answers, track: bool = False) -> Guidance:
    """Returns what `Distiller.guide` would, without the teacher.

    Args:
        distiller: With the matching of today.
        answers: To the images that the student is about to see.
        track: Whether the learner is to add the batch to the statistics of the points.
    """
    output = None if answers.logits is None else ReadyLogits(answers.logits)
    if track:
        return Guidance(list(answers.features), output, track)
    kept = [
        point.keep(maps) for point, maps in zip(distiller.points, answers.features, strict=True)
    ]
    return Guidance(kept, output)

"""Learner: all that is trained under a teacher, and the losses that train it."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from mgd.errors import InputError
from mgd.inside import TappedModel
from mgd.method.point import DistillationPoints, Target
from mgd.tensors.logits import LOGIT_LOSSES


class Distilled(NamedTuple):
    """What one forward of a `Distiller` gives."""

    loss: Float[Tensor, " batch"]
    """All that the teacher adds to the loss of each image: the sum of `terms`."""
    terms: dict[str, Tensor]
    """The weighted terms (B,), by name: "kd" where it has a weight, and "mgd_1", "mgd_2", ...,
    or another method's name, from the shallowest point to the deepest."""
    output: Any
    """The student's output as the network returns it."""
    point_losses: Float[Tensor, "batch points"]
    """Loss of each image at each point, a sum over its elements, unweighted."""
    kd_loss: Float[Tensor, " batch"]
    """Loss on the logits of each image, unweighted; zeros where it has no weight."""

    @property
    def logits(self) -> Any:
        """The same as `output`: (B, K) for a classifier."""
        return self.output


class Guidance:
    """What the teacher gives for one batch: its output, and the features or targets of each point.

    A plain object, so that wrappers such as DDP pass it on as it is instead of walking through it.

    Args:
        kept: Of each point, what `DistillationPoint.keep` returned.
        output: The teacher's output.
        track: Whether this batch is added to the statistics of the points; then `kept` holds the
            features as the taps read them.
    """

    def __init__(self, kept: list[Tensor | Target], output: Any, track: bool = False):
        self.kept, self.output, self.track = kept, output, track

    def handed_out(self) -> Iterator[Tensor | Target]:
        """Yields what each point needs, once, and lets go of it: it is most of a step's memory."""
        while self.kept:
            yield self.kept.pop(0)


class LogitTerm(NamedTuple):
    """The loss on the logits: which one, how soft, and its weight."""

    kd: str = "kd"
    """A name in `mgd.LOGIT_LOSSES`."""
    temperature: float = 1.5
    weight: float = 0.0
    dkd_beta: float = 8.0

    def check(self) -> None:
        """Checks the names and ranges.

        Raises:
            InputError: For a value that cannot be used.
        """
        if self.kd not in LOGIT_LOSSES:
            raise InputError(f"unknown `kd` '{self.kd}'; choose one of {', '.join(LOGIT_LOSSES)}")
        if not self.temperature > 0:
            raise InputError(f"`kd_temperature` (={self.temperature}) must be above 0")
        if not self.weight >= 0:
            raise InputError(f"`kd_weight` (={self.weight}) must be at least 0; 0 leaves KD out")

    def loss(self, student: Tensor, teacher: Tensor, labels: Tensor | None) -> Tensor:
        """Returns the unweighted loss (B,) of logits (B, K).

        Raises:
            InputError: If the loss needs labels and there are none.
        """
        choice = LOGIT_LOSSES[self.kd]
        if not choice.needs_labels:
            return choice.loss(student, teacher, self.temperature)
        if labels is None:
            raise InputError(
                f"kd='{self.kd}' looks at the class of the label: call distiller(images, labels)"
            )
        # An image without a label takes the teacher's class.
        labels = labels.where(labels >= 0, teacher.argmax(1))
        return partial(choice.loss, beta=self.dkd_beta)(student, teacher, labels, self.temperature)


class Learner(nn.Module):
    """The student and each point's own layers: all that an optimizer or DDP has to know.

    The teacher is not in here. It runs before, in `Distiller.guide`.

    Args:
        student: With taps.
        points: From the input to the output of the networks.
        method: What the terms of the points are called after.
        weights: Of each point.
        logit_term: The loss on the logits.
    """

    def __init__(
        self,
        student: TappedModel,
        points: DistillationPoints,
        method: str,
        weights: list[float],
        logit_term: LogitTerm,
    ):
        super().__init__()
        self.tapped_student, self.points, self.logit_term = student, points, logit_term
        self.term_weights = {"kd": logit_term.weight} if logit_term.weight else {}
        self.term_weights |= {f"{method}_{i}": weight for i, weight in enumerate(weights, start=1)}

    def forward(
        self,
        images: Float[Tensor, "batch colours height width"],
        labels: Int64[Tensor, " batch"] | None,
        guidance: Guidance,
    ) -> Distilled:
        """Runs the student and compares it with what the teacher gave.

        Args:
            images: The batch that the guidance was made from.
            labels: Classes; -1 for an image without one. Only some logit losses need them.
            guidance: From `Distiller.guide`; it is used up.

        Raises:
            InputError: If the loss on the logits needs labels and there are none.
        """
        features, output = self.tapped_student(images)
        if guidance.track:
            self.observe(features, guidance.kept)
        losses = [
            point(student, teacher)
            for point, student, teacher in zip(
                self.points, features, guidance.handed_out(), strict=True
            )
        ]
        kd_loss = torch.zeros(len(images), device=images.device)
        if self.logit_term.weight:
            kd_loss = self.logit_term.loss(output, guidance.output, labels)
        unweighted = [kd_loss, *losses] if self.logit_term.weight else losses
        terms = {
            name: weight * loss
            for (name, weight), loss in zip(self.term_weights.items(), unweighted, strict=True)
        }
        point_losses = torch.stack(losses, dim=1) if losses else kd_loss.new_empty(len(images), 0)
        total = torch.stack(list(terms.values())).sum(0)
        return Distilled(total, terms, output, point_losses, kd_loss)

    @torch.no_grad()
    def observe(
        self, student: tuple[Tensor, ...], teacher: tuple[Tensor, ...] | list[Tensor | Target]
    ) -> None:
        """Adds a batch of features, as the taps read them, to the statistics of the points."""
        for point, followed, guiding in zip(self.points, student, teacher, strict=True):
            assert isinstance(guiding, Tensor)  # statistics need features, not targets
            point.observe(followed, guiding)

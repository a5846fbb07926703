"""Learner: all that is trained under a teacher, and the losses that train it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mgd.inside import AsGiven, Images, TappedModel, logits_of
from mgd.method.logit_term import LogitTerm
from mgd.method.point import DistillationPoints, Target


class Distilled(NamedTuple):
    """What one forward of a `Distiller` gives."""

    loss: Float[Tensor, " batch"]
    """All that the teacher adds to the loss of each image: the sum of `terms`."""
    terms: dict[str, Tensor]
    """The weighted terms (B,), by name: "kd" where it has a weight, and "mgd_1", "mgd_2", ...,
    or another method's name ("own" for the user's), from the shallowest point to the deepest."""
    output: Any
    """The student's output as the network returns it."""
    point_losses: Float[Tensor, "batch points"]
    """Loss of each image at each point, unweighted: the mean per element times the elements that an
    image of the example's size has. At that size it is the sum over elements."""
    kd_loss: Float[Tensor, " batch"]
    """Loss on the logits of each image, unweighted; zeros where it has no weight."""

    @property
    def logits(self) -> Tensor:
        """The class scores in `output`, as `mgd.logits_of` finds them: (B, K) for a classifier."""
        return logits_of(self.output)


class Guidance:
    """What the teacher gives for one batch: its output, and the features or targets of each point.

    A plain object, so that wrappers such as DDP pass it on as it is instead of walking through it.

    Args:
        kept: Of each point, what `DistillationPoint.keep` returned.
        output: The teacher's output; `None` where nothing here needs it and it was not computed.
        track: Whether this batch is added to the statistics of the points; then `kept` holds the
            features as the taps read them.
        mask: 1 where an image is and 0 where padding is, (B, H, W); `None` without padding.
        weights: How much each place counts, (B, H, W), 0 in the padding; `None` is 1 everywhere.
    """

    def __init__(
        self,
        kept: list[Tensor | Target],
        output: Any,
        track: bool = False,
        mask: Tensor | None = None,
        weights: Tensor | None = None,
    ):
        self.kept, self.output, self.track = kept, output, track
        self.mask, self.weights = mask, weights

    def handed_out(self) -> Iterator[Tensor | Target]:
        """Yields what each point needs, once, and lets go of it: it is most of a step's memory."""
        while self.kept:
            yield self.kept.pop(0)


class Learner(nn.Module):
    """The student and each point's own layers: all that an optimizer or DDP has to know.

    The teacher is not in here. It runs before, in `Distiller.guide`.

    Args:
        student: With taps.
        preprocess: Gives the student its view of the images.
        points: From the input to the output of the networks.
        method: What the terms of the points are called after; "own" for a method of the user's.
        weights: Of each point.
        logit_term: The loss on the logits.
    """

    def __init__(
        self,
        student: TappedModel,
        preprocess: nn.Module,
        points: DistillationPoints,
        method: str,
        weights: list[float],
        logit_term: LogitTerm,
    ):
        super().__init__()
        self._given = AsGiven(student.network)
        self.tapped_student, self.preprocess = student, preprocess
        self.points, self.logit_term = points, logit_term
        self.term_weights = {"kd": logit_term.weight} if logit_term.weight else {}
        name = method.replace("-", "_")
        self.term_weights |= {f"{name}_{i}": weight for i, weight in enumerate(weights, start=1)}

    def forward(
        self,
        images: Images,
        labels: Tensor | None,
        guidance: Guidance,
        targets: Any = None,
    ) -> Distilled:
        """Runs the student and compares it with what the teacher gave.

        Args:
            images: The batch that the guidance was made from.
            labels: Classes (B,); -1 for an image without one. Only some logit losses need them.
            guidance: From `Distiller.guide`; it is used up.
            targets: What the student is called with after the images, if not `None`.

        Raises:
            InputError: As `LogitTerm.loss`.
        """
        features, output = self.run_student(images, targets)
        return self.compare(features, output, labels, guidance)

    def compare(
        self,
        features: tuple[Tensor, ...],
        output: Any,
        labels: Tensor | None,
        guidance: Guidance,
    ) -> Distilled:
        """Compares what the student gave, in whoever's call, with what the teacher gave.

        Args:
            features: As the student's taps read them.
            output: The student's, as it returns it.
            labels, guidance: As `forward` takes them.

        Raises:
            InputError: As `LogitTerm.loss`.
        """
        if guidance.track:
            self.observe(features, guidance.kept, guidance.mask)
        losses = [
            point(student, teacher, guidance.weights)
            for point, student, teacher in zip(
                self.points, features, guidance.handed_out(), strict=True
            )
        ]
        if self.logit_term.weight:
            kd_loss = self.logit_term.loss(output, guidance.output, labels)
        else:
            kd_loss = torch.zeros_like(losses[0])  # a distiller without KD has points
        unweighted = [kd_loss, *losses] if self.logit_term.weight else losses
        terms = {
            name: weight * loss
            for (name, weight), loss in zip(self.term_weights.items(), unweighted, strict=True)
        }
        point_losses = torch.stack(losses, dim=1) if losses else kd_loss.new_empty(len(kd_loss), 0)
        total = torch.stack(list(terms.values())).sum(0)
        return Distilled(total, terms, output, point_losses, kd_loss)

    def run_student(self, images: Images, targets: Any = None) -> tuple[tuple[Tensor, ...], Any]:
        """Shows the student its view of images; returns its features at the taps, and its output.

        Args:
            images, targets: As `forward` takes them.
        """
        more = () if targets is None else (targets,)
        return self.tapped_student(self.preprocess(images), *more)  # type: ignore[no-any-return]  # a module's

    def read_student(self, images: Images) -> tuple[Tensor, ...]:
        """Shows the student its view of images, and returns its features at the taps alone."""
        features, _ = self.tapped_student.read(self.preprocess(images))
        return features

    def close(self) -> None:
        """Gives the student back: no hooks, and modes and gradients as they were."""
        self.tapped_student.close()
        self._given.restore()

    @torch.no_grad()
    def observe(
        self,
        student: tuple[Tensor, ...],
        teacher: tuple[Tensor, ...] | list[Tensor | Target],
        mask: Tensor | None = None,
    ) -> None:
        """Adds a batch of features, as the taps read them, to the statistics of the points."""
        for point, followed, guiding in zip(self.points, student, teacher, strict=True):
            assert isinstance(guiding, Tensor)  # statistics need features, not targets
            point.observe(followed, guiding, mask)

"""LogitTerm: the loss on the logits of two networks, and what it needs of their outputs."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mgd.errors import InputError
from mgd.inside import logits_of
from mgd.tensors.logits import LOGIT_LOSSES

_SOFTMAX = "KD takes a softmax over K classes of which one is right"


class ReadyLogits(NamedTuple):
    """Logits of the student's classes already, as opposed to what a teacher returns."""

    logits: Tensor


class LogitTerm(NamedTuple):
    """The loss on the logits: which one, how soft, and its weight."""

    kd: str = "kd"
    """A name in `mgd.LOGIT_LOSSES`."""
    temperature: float = 1.5
    weight: float = 0.0
    dkd_beta: float = 8.0
    teacher_output: Callable[[Any], Tensor] = logits_of
    """Turns what the teacher returns into logits (B, K) of the student's classes."""

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

    def logits(self, student: Any, teacher: Any) -> tuple[Tensor, Tensor]:
        """Returns the logits (B, K) in what the two networks returned.

        Args:
            student: The student's output.
            teacher: The teacher's output, or `ReadyLogits`.

        Raises:
            InputError: If these are not scores of the same classes, of which there are two or more.
        """
        try:
            scores = logits_of(student), self.teachers(teacher)
        except InputError as error:
            raise InputError(f"{_SOFTMAX}, but {error}; or set `kd_weight` to 0") from error
        ours, theirs = map(_shape, scores)
        if ours != theirs or len(ours) != 2 or ours[1] < 2:
            raise InputError(
                f"{_SOFTMAX}, but teacher output {theirs} and student output {ours} are no logits "
                "(B, K) of the same classes, 2 or more; set `kd_weight` to 0 to distil features "
                "alone"
            )
        return scores

    def teachers(self, output: Any) -> Tensor:
        """Returns the logits in what the teacher returned, which is not checked.

        Raises:
            InputError: If there are none.
        """
        if isinstance(output, ReadyLogits):
            return output.logits
        return self.teacher_output(output)

    def loss(self, student: Any, teacher: Any, labels: Tensor | None) -> Tensor:
        """Returns the unweighted loss (B,) of what the two networks returned.

        Raises:
            InputError: If the outputs are no logits, if the labels are no classes, or if the loss
                needs labels and there are none.
        """
        student, teacher = self.logits(student, teacher)
        if labels is not None:
            _check_labels(labels, len(student))
        choice = LOGIT_LOSSES[self.kd]
        if not choice.needs_labels:
            return choice.loss(student, teacher, self.temperature)
        if labels is None:
            raise InputError(
                f"kd='{self.kd}' looks at the class of the label: call distiller(images, labels)"
            )
        # An image without a label takes the teacher's class.
        labels = labels.long().where(labels >= 0, teacher.argmax(1))
        return partial(choice.loss, beta=self.dkd_beta)(student, teacher, labels, self.temperature)


def _shape(scores: Any) -> tuple[Any, ...]:
    return tuple(scores.shape) if isinstance(scores, Tensor) else (type(scores).__name__,)


def _check_labels(labels: Tensor, num_images: int) -> None:
    is_class = not labels.is_floating_point() and labels.dtype != torch.bool
    if not is_class or labels.shape != (num_images,):
        kind = str(labels.dtype).removeprefix("torch.")
        raise InputError(
            f"{_SOFTMAX}, but `labels` are {kind} {tuple(labels.shape)}, not one class for each of "
            f"{num_images} images; set `kd_weight` to 0 where several classes are right; leave "
            "mixed labels (mixup) out, which only kd='dkd' looks at"
        )

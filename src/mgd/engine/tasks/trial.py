"""Trial: every network is run once on an example, so that a misfit is told before anything long."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mgd.engine.tasks.classifier import Classifier, telling_of
from mgd.engine.tasks.classifiers import Classifiers
from mgd.errors import InputError
from mgd.inside import Buffers, evaluating
from mgd.views import Preprocess


@torch.no_grad()
def try_networks(classifiers: Classifiers, example: Tensor) -> None:
    """Runs the student as in evaluation and as in training, and the teacher as in evaluation.

    Args:
        classifiers: The networks, on the device of the example; they are left as they were.
        example: A batch of training images, uint8.

    Raises:
        InputError: For a network that does not run on its view of the images, or that gives no
            scores of the classes.
    """
    student, teacher = classifiers.student, classifiers.teacher
    num_classes = len(classifiers.classes)
    with telling_of(student, "size"):
        images = Preprocess(student.view).to(example.device)(example)
        with evaluating(student.network):  # first, since it gives lazy layers their weights
            _check_logits(student, student.logits(images), num_classes)
        # Some networks return more in training, such as the scores of auxiliary heads.
        with _left_alone(student.network, example.device):
            student.network.train()
            _check_logits(student, student.logits(images), num_classes)
    if teacher is None:
        return
    with telling_of(teacher, "teacher_size"), evaluating(teacher.network):
        output = teacher.network(Preprocess(teacher.view).to(example.device)(example))
        if not teacher.no_answers:
            _check_logits(teacher, teacher.answers(output), num_classes)


@contextmanager
def _left_alone(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Gives back modes, buffers and random numbers, which a forward in training changes."""
    given = Buffers(network)
    drawn_on = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(drawn_on), evaluating(network):
        yield
    given.restore()


def _check_logits(classifier: Classifier, logits: Tensor, num_classes: int) -> None:
    if logits.shape[1:] != (num_classes,):
        raise InputError(
            f"outputs {tuple(logits.shape[1:])}, but the data has {num_classes} classes; give a "
            "network with one output per class"
        )

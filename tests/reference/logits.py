"""Losses on logits, one image and class at a time."""

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def logit_kd(student: Array, teacher: Array, temperature: float) -> Array:
    """(B, K), (B, K) -> (B,): T^2 KL(teacher || student)."""
    losses = np.zeros(student.shape[0])
    for image in range(student.shape[0]):
        p = _softmax([float(x) / temperature for x in teacher[image]])
        q = _softmax([float(x) / temperature for x in student[image]])
        losses[image] = temperature**2 * _divergence(p, q)
    return losses


def decoupled_kd(
    student: Array, teacher: Array, labels: list[int], temperature: float, beta: float
) -> Array:
    """(B, K), (B, K), (B,) -> (B,): T^2 (KL of label or not + beta KL among the others)."""
    losses = np.zeros(student.shape[0])
    for image, label in enumerate(labels):
        p = _softmax([float(x) / temperature for x in teacher[image]])
        q = _softmax([float(x) / temperature for x in student[image]])
        others = [k for k in range(len(p)) if k != label]
        sure, own = sum(p[k] for k in others), sum(q[k] for k in others)
        target = _divergence([p[label], sure], [q[label], own])
        rest = _divergence([p[k] / sure for k in others], [q[k] / own for k in others])
        losses[image] = temperature**2 * (target + beta * rest)
    return losses


def dist_kd(student: Array, teacher: Array, temperature: float) -> Array:
    """(B, K), (B, K) -> (B,): T^2 (2 - correlation over classes - mean one over images)."""
    wanted = np.array([_softmax([float(x) / temperature for x in row]) for row in teacher])
    given = np.array([_softmax([float(x) / temperature for x in row]) for row in student])
    classes = range(student.shape[1])
    over_images = [np.corrcoef(given[:, k], wanted[:, k])[0, 1] for k in classes]
    over_classes = [np.corrcoef(s, t)[0, 1] for s, t in zip(given, wanted, strict=True)]
    within = 1 - sum(over_images) / len(classes)
    return np.array([temperature**2 * (1 - c + within) for c in over_classes])


def standardised_kd(student: Array, teacher: Array, temperature: float) -> Array:
    """(B, K), (B, K) -> (B,): logit_kd of logits of mean 0 and standard deviation 1."""
    student, teacher = (
        np.array([(row - np.mean(row)) / np.std(row, ddof=1) for row in logits])
        for logits in (student, teacher)
    )
    return logit_kd(student, teacher, temperature)


def _divergence(wanted: list[float], given: list[float]) -> float:
    return sum(p * (math.log(p) - math.log(q)) for p, q in zip(wanted, given, strict=True))


def _softmax(logits: list[float]) -> list[float]:
    largest = max(logits)
    weights = [math.exp(x - largest) for x in logits]
    return [weight / sum(weights) for weight in weights]

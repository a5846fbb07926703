"""Objective: every loss term of an image, already weighted, so that terms add up to the loss."""

import torch.nn.functional as F
from torch import Tensor, nn

from mgd.engine.options.config import DistillationConfig
from mgd.method.distiller import Distiller
from mgd.tensors.losses import point_weights

_PUBLISHED_WORTH = 20
"""What the factor 1e4 is for ResNet-50 -> MobileNet-V1 at 224 px: 200 704 weighted elements."""

_LEAST_FACTOR = 200
"""Below it, few elements would each pull harder than the label; measured, docs/method.md."""


class Objective(nn.Module):
    """The student's loss, alone or under a teacher: one forward that DP and DDP can wrap.

    Args:
        network: The student, or a `Distiller`.
        config: Weights of the terms.
    """

    def __init__(self, network: nn.Module, config: DistillationConfig):
        super().__init__()
        self.network = network
        self.weights = term_weights(network, config)
        if isinstance(network, Distiller):
            # DDP would send these with every step: frozen, or the same on all ranks by making.
            self._ddp_params_and_buffers_to_ignore = [
                f"network.{name}" for name in network.constants()
            ]

    def close(self) -> None:
        """Takes the taps out of the networks."""
        if isinstance(self.network, Distiller):
            self.network.close()

    @property
    def student(self) -> nn.Module:
        """The network that is trained."""
        return self.network.student if isinstance(self.network, Distiller) else self.network

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns logits (B, K) and the weighted terms, (B,) each, under the names of `weights`."""
        if not isinstance(self.network, Distiller):
            logits = self.network(images)
            return logits, {"ce": _cross_entropy(logits, labels)}
        logits, point_losses, kd_loss = self.network(images, labels)
        terms = {"ce": _cross_entropy(logits, labels), "kd": kd_loss}
        method = self.network.method
        terms |= {f"{method}_{i}": loss for i, loss in enumerate(point_losses.unbind(1), start=1)}
        return logits, {name: terms[name] * weight for name, weight in self.weights.items()}


def term_weights(network: nn.Module, config: DistillationConfig) -> dict[str, float]:
    """Returns the factor of every loss term.

    The points weigh `2^-(n - 1 - i) / loss_factor`, the deepest most. With "auto" the factor makes
    the sum `feature_weight` times the weighted mean per element, which keeps its weight beside the
    cross-entropy at any image size and pair; `docs/method.md` derives both rules.
    """
    weights = {"ce": 1.0}
    if not isinstance(network, Distiller):
        return weights
    if network.kd_temperature is not None:
        weights["kd"] = config.kd_weight
    points = list(network.iter_points())
    shares = point_weights(len(points)).tolist()
    weighted = sum(share * point.num_elements for share, point in zip(shares, points, strict=True))
    factor = config.loss_factor
    if factor == "auto":
        worth = config.feature_weight
        factor = weighted / (_PUBLISHED_WORTH if worth == "auto" else worth)
        if worth == "auto":
            factor = max(factor, _LEAST_FACTOR)
    return weights | {f"{network.method}_{i}": share / factor for i, share in enumerate(shares, 1)}


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), labels, reduction="none")

"""Writing a network in each of the formats."""

import json
from pathlib import Path

import torch
from torch import nn

from mgd.engine.loop.checkpoint import save_weights
from mgd.inside import logits_of
from mgd.models import Format, Metadata, to_onnx, to_pt2
from mgd.models.metadata import beside
from mgd.runfolder import write_whole


def write_network(network: nn.Module, metadata: Metadata, path: Path, kind: Format) -> list[Path]:
    """Writes a network, and its metadata beside it where the format cannot hold them.

    Args:
        network: On the CPU.
        metadata: Of the network.
        path: The file.
        kind: Its format.

    Returns:
        The files.

    Raises:
        InputError: If a package is missing.
        RunError: If it cannot be written.
    """
    if kind == "pth":
        text = json.dumps(metadata.to_plain(), indent=1).encode()
        write_whole(path, lambda file: torch.save(network.state_dict(), file))
        write_whole(beside(path), lambda file: file.write(text))
        return [path, beside(path)]
    if kind == "safetensors":
        save_weights(network, path, metadata)
    elif kind == "pt2":
        write_whole(path, lambda file: to_pt2(_Scores(network), metadata, file))
    else:
        write_whole(path, lambda file: to_onnx(_Scores(network), metadata, file))
    return [path]


class _Scores(nn.Module):
    """A network that returns its class scores (B, K) alone, whatever else it returns."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return logits_of(self.network(images))

"""Pruning: removes the least important channels of a trained network, before a run trains on."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # torch has no public name for all of them

from mgd.engine.tasks.padding import Paddings, follow
from mgd.errors import InputError, import_extra
from mgd.inside import evaluating, logits_of
from mgd.models import create_model, head
from mgd.models.weights import load_weights
from mgd.models.widths import PRUNABLE, fit_widths, is_depthwise

TOLERANCE = 1e-3
"""Largest difference of the proof, as a share of the largest logit."""


class _Choice(NamedTuple):
    """Channels that are removed together, by the layer that the dependencies begin at."""

    root: nn.Module
    remove: Any
    """The function of torch-pruning that removes outputs of the root."""
    channels: list[int]


@dataclass(frozen=True)
class ChannelPruner:
    """Removes a share of the channels of every layer, by magnitude.

    The channels that residual connections, concatenations and depth-wise convolutions tie together
    are removed together; torch-pruning finds them (Fang et al., "DepGraph: Towards Any Structural
    Pruning", CVPR 2023, https://arxiv.org/abs/2301.12900). Of each such group the channels with the
    smallest mean squared weight are removed. The same share of each group is removed, so that no
    layer is emptied. The outputs of the last layer, the classes, stay.

    The result is proven: it must compute what the whole network computes with these channels set
    to zero, after it was built anew from the shapes of its weights, as a reader of its file does.

    Args:
        name: Of the network, as in `mgd.create_model`.
        num_classes: Its number of classes.
        share: Of the channels that are removed, above 0 and below 1.
        size: Side of the images in px.
        num_channels: Of the images.
    """

    name: str
    num_classes: int
    share: float
    size: int
    num_channels: int = 3

    def prune(self, network: nn.Module) -> nn.Module:
        """Returns a narrower network with the weights that are left.

        Args:
            network: On the CPU; it stays as it is.

        Raises:
            InputError: If the package is missing, or the network cannot be pruned.
        """
        self._check(network)
        pruned, masked = deepcopy(network), deepcopy(network)
        last = {key.rpartition(".")[0] for key in head(self.name, self.num_classes)}
        example = torch.randn(
            2, self.num_channels, self.size, self.size, generator=torch.Generator().manual_seed(0)
        )
        try:
            with torch.enable_grad():
                self._remove(pruned, masked, example, last)
            narrow = self._built_anew(pruned)
            with torch.no_grad(), evaluating(narrow), evaluating(masked):
                found, expected = logits_of(narrow(example)), logits_of(masked(example))
        except InputError:
            raise
        except Exception as error:  # torch-pruning's own assertions, and torch's of misfit shapes
            raise self._cannot(f"{type(error).__name__}: {error}") from error
        if not (found - expected).abs().max() <= TOLERANCE * expected.abs().max():
            raise self._cannot("what is left does not compute what it did")
        return narrow

    def _check(self, network: nn.Module) -> None:
        for path, module in network.named_modules():
            if not isinstance(module, PRUNABLE) and [*module.parameters(recurse=False)]:
                raise self._cannot(f"{path} is a {type(module).__name__}")

    def _cannot(self, reason: str) -> InputError:
        reason = " ".join(reason.split())[:200]
        return InputError(
            f"`prune_channels` cannot prune {self.name} ({reason}); it prunes networks of "
            "convolutions, BatchNorms and linear layers: prune this one yourself and give it to "
            "mgd.Distiller"
        )

    def _remove(
        self, pruned: nn.Module, masked: nn.Module, example: Tensor, last: set[str]
    ) -> None:
        """Removes channels of one network, and sets them to zero in the other."""
        tp = import_extra("torch_pruning", "compress", "`prune_channels`")
        for parameter in pruned.parameters():
            parameter.requires_grad_(True)  # the dependencies are read from autograd's graph
        with Paddings() as paddings:
            graph = tp.DependencyGraph().build_dependency(
                pruned, example, output_transform=logits_of, verbose=False
            )
        follow(paddings, tp, graph)
        names = {module: path for path, module in pruned.named_modules()}
        importance = tp.importance.GroupMagnitudeImportance(p=2)
        choices = []
        for group in graph.get_all_groups([m for m, path in names.items() if path in last]):
            if any(_is_grouped(item.dep.target.module) for item in group):
                continue
            group = _of_the_widest(graph, group)
            root = group[0].dep.target.module
            scores = importance(group)
            channels = [
                channel
                for alike in _alike(paddings, group)
                for channel in _least(scores, alike, self.share)
            ]
            if channels:
                choices.append(_Choice(root, group[0].dep.handler, channels))
        for choice in choices:  # before the first is removed, which renumbers the others
            _mask(graph, graph.get_pruning_group(*choice), masked, names)
        for choice in choices:
            graph.get_pruning_group(*choice).prune()

    def _built_anew(self, pruned: nn.Module) -> nn.Module:
        with torch.random.fork_rng(devices=()):
            narrow = create_model(self.name, self.num_classes)
        weights = pruned.state_dict()
        fit_widths(narrow, weights, self.name)
        load_weights(narrow, weights, self.name)
        return narrow


def _of_the_widest(graph: Any, group: Any) -> Any:
    """Returns the group of the layer with the most outputs among those tied together.

    Behind a padding there are channels that the first layer does not have.
    """
    widest = max(
        (item.dep for item in group if graph.is_out_channel_pruning_fn(item.dep.handler)),
        key=lambda dep: _width(dep.target.module),
    )
    module = widest.target.module
    if _width(module) <= _width(group[0].dep.target.module):
        return group
    remove = graph.get_pruner_of_module(module).prune_out_channels
    return graph.get_pruning_group(module, remove, list(range(_width(module))))


def _width(module: Any) -> int:
    """Returns the number of outputs of a convolution or a linear layer; 0 of anything else."""
    is_layer = isinstance(module, (nn.Conv2d, nn.Linear))
    return int(module.weight.shape[0]) if is_layer else 0


def _is_grouped(module: Any) -> bool:
    """Tells whether removing a channel would change what the other groups of a layer read."""
    return isinstance(module, nn.Conv2d) and module.groups > 1 and not is_depthwise(module)


def _least(scores: Tensor, among: Sequence[int], share: float) -> list[int]:
    """Returns the share of some channels with the smallest scores, rounded down."""
    order = scores[torch.tensor(among)].argsort(stable=True)
    return [among[place] for place in order[: int(len(among) * share)].tolist()]


def _alike(paddings: Paddings, group: Any) -> list[list[int]]:
    """Splits the channels of a group into those that run through the same layers.

    A shortcut that adds channels of zeros must add as many on each side as it did, in proportion,
    so that those before and after the others are apart.
    """
    marks = defaultdict[int, list[Hashable]](list)
    for number, item in enumerate(group):
        pad = paddings.of(item.dep.target)
        for channel, root in zip(item.idxs, item.root_idxs, strict=True):
            place = 0
            if pad is not None:
                place = (channel >= pad.start) + (channel >= pad.stop)
            marks[root].append((number, place))
    classes = defaultdict[Hashable, list[int]](list)
    for root in sorted(marks):
        classes[tuple(marks[root])].append(root)
    return list(classes.values())


@torch.no_grad()
def _mask(graph: Any, group: Any, masked: nn.Module, names: dict[nn.Module, str]) -> None:
    """Sets in a whole network to zero what pruning a group removes."""
    for dependency, channels in group:
        module = dependency.target.module
        if module not in names or not isinstance(module, PRUNABLE):
            continue
        twin: Any = masked.get_submodule(names[module])
        is_input = graph.is_in_channel_pruning_fn(dependency.handler)
        one_by_one = isinstance(twin, _BatchNorm) or (
            isinstance(twin, nn.Conv2d) and is_depthwise(twin)
        )
        if is_input and not one_by_one:
            twin.weight[:, channels] = 0
            continue
        for parameter in (twin.weight, twin.bias):
            if parameter is not None:
                parameter[channels] = 0

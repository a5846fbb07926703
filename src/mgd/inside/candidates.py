"""Candidates: the tensors of a network that are worth distilling.

Three kinds are looked for, in a `Trace` of the network:

- pre-activations: the input of each activation module or, where the activation is a function, the
  nearest tensor that a module returns;
- residual sums: in transformers and ConvNeXt the activations lie inside MLPs, and what a block
  hands to the next one is the sum that it returns;
- for networks with neither, whatever their modules return.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from torch.autograd.graph import Node

from mgd.errors import TapError
from mgd.inside.activations import (
    Activation,
    find_activations,
    is_activated,
    is_in_mlp,
    reads_pointwise_conv,
)
from mgd.inside.blocks import place_in_blocks
from mgd.inside.graph import first_before, is_join, is_reshaping, is_residual_sum
from mgd.inside.maps import Candidate, FeatureMaps
from mgd.inside.probe import Sighting, Trace

_COARSEST = 5
"""Halvings up to a backbone's last stage, at stride 32; detectors add coarser maps behind it."""


def find_candidates(trace: Trace) -> list[Candidate]:
    """Returns the places worth distilling, in the order of the forward.

    In a network that hands maps to a head, as detectors and segmenters do, only places in the
    backbone count.

    Args:
        trace: What a probe saw in the network.

    Raises:
        TapError: If the network has no features at all.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
        >>> found = find_candidates(Trace(network, torch.zeros(1, 3, 8, 8)))
        >>> [str(candidate.tap) for candidate in found]
        ['1:input', '3:input']
    """
    # Maps of one position count only where there is nothing else. There a cosine is only a sign,
    # and mostly such maps are inside channel attention or a classifier.
    for strict in (True, False):
        search = _Search(trace, strict)
        found = search.in_backbone([*search.pre_activations(), *search.residual_sums()])
        found = found or search.in_backbone(search.outputs())
        if found:
            placed = place_in_blocks(search.maps, found)
            return sorted(placed, key=lambda candidate: candidate.order)
    raise TapError(
        f"{type(trace.network).__name__} has no module that returns features; "
        "give the points as pairs of module paths"
    )


def find_levels(trace: Trace) -> list[Candidate]:
    """Returns the levels of a network's feature pyramid, from fine to coarse, where it has one.

    Args:
        trace: What a probe saw in the network.
    """
    maps = FeatureMaps(trace)
    paths = [trace.intact_makers_of(node) for node in trace.handover.levels]
    # The last one is the outermost of the modules that return the level.
    found = [maps.candidate(trace.returned[makers[-1]]) for makers in paths if makers]
    return [candidate for candidate in found if candidate is not None]


class _Search:
    """Looks for each kind of candidate in a trace; `strict` is that of `FeatureMaps`."""

    def __init__(self, trace: Trace, strict: bool):
        self.trace = trace
        self.maps = FeatureMaps(trace, strict)
        self.activations = find_activations(trace)
        self.in_mlp = [
            activation for activation in self.activations if strict and is_in_mlp(trace, activation)
        ]

    def pre_activations(self) -> Iterator[Candidate]:
        """Yields what goes into the activations outside MLPs."""
        # A tensor may go into several activations. If one of them is in an MLP, it is left out.
        inside_mlps = [found.sighting for found in self._in_mlps_of_blocks()]
        for activation in self.activations:
            sighting = activation.sighting
            candidate = self.maps.candidate(sighting)
            if candidate is None or sighting in inside_mlps:
                continue
            # A stand-in behind a function is activated by that function itself.
            is_behind = sighting.node is activation.node
            if is_behind or not is_activated(self.trace, sighting.node):
                yield self._whole_concatenation(activation.node, candidate.level) or candidate

    def _in_mlps_of_blocks(self) -> list[Activation]:
        """Returns the activations in MLPs, without 1x1 convolutions outside residual blocks.

        Of a 1x1 convolution without a norm only its block tells whether it is part of an MLP.
        """
        blocks = [candidate.tap.path for candidate in self.residual_sums()]
        return [
            activation
            for activation in self.in_mlp
            if not reads_pointwise_conv(self.trace, activation)
            or any(_is_inside(activation.sighting.path, block) for block in blocks)
        ]

    def residual_sums(self) -> Iterator[Candidate]:
        """Yields the residual sums around MLPs, each where a block returns it.

        A block that returns a tuple hides its sum from taps; then the sum is taken where the next
        module reads it.
        """
        returned = [found for found in self.trace.returned.values() if self._holds_mlp(found.path)]
        read = [found for found in self.trace.sightings.values() if found.side == "input"]
        yield from list(self._sums(returned)) or self._sums(read if self.in_mlp else [])

    def _holds_mlp(self, path: str) -> bool:
        paths = [activation.sighting.path for activation in self.in_mlp]
        return path != "" and any(_is_inside(inner, path) for inner in paths)

    def _sums(self, sightings: Iterable[Sighting]) -> Iterator[Candidate]:
        """Yields the residual sums among some tensors, each once."""
        known = set[Node | None]()
        for sighting in sightings:
            candidate = self.maps.candidate(sighting)
            made = first_before(sighting.node, is_reshaping)
            if candidate is None or made is None or not is_residual_sum(made):
                continue
            if sighting.node not in known:
                known.add(sighting.node)
                yield replace(candidate, is_residual_sum=True)

    def outputs(self) -> Iterator[Candidate]:
        """Yields what modules return, without the network's own output."""
        for path, sighting in self.trace.returned.items():
            candidate = self.maps.candidate(sighting)
            if candidate is not None and path:
                yield candidate

    def in_backbone(self, found: Iterable[Candidate]) -> list[Candidate]:
        """Returns those of some candidates that are no part of a head or pyramid."""
        handover = self.trace.handover
        return [
            candidate
            for candidate in found
            if not handover.trunk
            or (handover.is_in_trunk(candidate.tap.path) and candidate.level <= _COARSEST)
            if candidate.node not in handover.levels
        ]

    def _whole_concatenation(self, node: Node | None, level: int) -> Candidate | None:
        """Follows an activation that ends one branch of a concatenation to the whole.

        Branches of Inception and ShuffleNet end in activations of their own. The whole is what a
        module returns behind the concatenation, at the same level.
        """
        todo = [(node, False)]
        while todo:
            current, is_joined = todo.pop()
            for path in self.trace.intact_makers_of(current) if is_joined else ():
                candidate = self.maps.candidate(self.trace.returned[path])
                if candidate is not None and candidate.level == level:
                    return candidate
            for reader in self.trace.consumers_of(current):
                if is_join(reader) or is_reshaping(reader):
                    todo.append((reader, is_joined or is_join(reader)))
        return None


def _is_inside(path: str, outer: str) -> bool:
    return path.startswith(f"{outer}.")

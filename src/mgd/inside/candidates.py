"""Candidates: the tensors of a network that are worth distilling.

Three kinds are looked for, in a `Trace` of the network:

- pre-activations: what goes into an activation module, or, where the activation is a function,
  what the module in front of it returns;
- in blocks whose activations sit between linear layers, as in transformers and ConvNeXt, the
  sum that the block returns: the inside of such an MLP is the end of nothing;
- for networks with neither, whatever their modules return.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate

from torch import nn

from mgd.errors import TapError
from mgd.inside.probe import Node, Sighting, Trace, behind_reshaping, is_reshaping, parents_of
from mgd.inside.taps import Tap, is_activation, misfit

# As autograd's names of the operations begin.
_ACTIVATIONS = (
    *("Relu", "LeakyRelu", "Prelu", "Hardtanh", "Clamp", "Hardswish", "Silu", "Gelu"),
    *("Elu", "Celu", "Mish", "Softplus"),
)
# These scale other features; what goes into them is no feature.
_GATES = (nn.Sigmoid, nn.Hardsigmoid, nn.LogSigmoid)
# A module with this many levels inside is the trunk of the network, not a block.
_TRUNK_LEVELS = 3


@dataclass(frozen=True)
class Candidate:
    """A place that could be a distillation point."""

    tap: Tap
    node: Node
    tick: int
    """When it is seen; later is deeper."""
    level: int
    """Halvings between the image and the map: 5 for 7x7 of 224x224."""
    is_stream: bool = False
    """Whether it is the sum that a block with an MLP returns."""
    strays: int = 0
    """How many blocks around it return another level: inside those it is half-way there."""


def find_candidates(trace: Trace) -> list[Candidate]:
    """Returns the places worth distilling, in the order of the forward.

    Raises:
        TapError: If the network has no features at all.
    """
    for strict in (True, False):
        search = _Search(trace, strict)
        found = [*search.pre_activations(), *search.streams()] or list(search.outputs())
        if found:
            return sorted(search.located(found), key=lambda candidate: candidate.tick)
    raise TapError(
        f"{type(trace.network).__name__} has no module that returns features; "
        "give the points as pairs of module paths"
    )


class _Search:
    """Looks through a trace; unless `strict`, maps of one position and odd shapes count too.

    In one position a cosine is only a sign. Such maps are mostly the inside of channel
    attention, or a classifier's.
    """

    def __init__(self, trace: Trace, strict: bool):
        self.trace, self.strict = trace, strict
        seen = trace.sightings.values()
        maps = [reading for by in seen if (reading := self._read(by)) is not None]
        self.level_of = _levels({area for _, area in maps}, math.prod(trace.image_size))
        self.returned = {by.path: by for by in seen if by.side == "output"}
        self.activated = [by for by in seen if by.side == "input" and self._activates(by.path)]
        self.activations = list(self._activations())
        self.in_mlp = [by for by, _ in self.activations if strict and self._is_in_mlp(by)]

    def _activates(self, path: str) -> bool:
        module = self.trace.modules[path]
        is_gate = isinstance(module, _GATES)
        return is_activation(module) and not is_gate and path in self.returned

    def pre_activations(self) -> Iterator[Candidate]:
        """Yields what goes into activations outside MLPs."""
        blocks = [candidate.tap.path for candidate in self.streams()]
        skipped = [
            by
            for by in self.in_mlp
            if not self._reads_conv(by) or any(_is_inside(by.path, block) for block in blocks)
        ]
        for by, after in self.activations:
            if any(by is other for other in skipped):
                continue
            candidate = self._place(by)
            if candidate is not None and (by.node is after or not self._is_activated(by.node)):
                yield self._joined(after, candidate.level) or candidate

    def streams(self) -> Iterator[Candidate]:
        """Yields the residual sums around MLPs, each where a block returns it.

        Blocks that return something beside it hide it; then the next module that reads it.
        """
        returned = [by for by in self.returned.values() if self._holds_mlp(by.path)]
        read = [by for by in self.trace.sightings.values() if by.side == "input" and self.in_mlp]
        yield from list(self._sums(returned)) or self._sums(read)

    def _holds_mlp(self, path: str) -> bool:
        return path != "" and any(_is_inside(by.path, path) for by in self.in_mlp)

    def _sums(self, sightings: Iterable[Sighting]) -> Iterator[Candidate]:
        nodes = set()
        for by in sightings:
            candidate = self._place(by)
            total = behind_reshaping(by.node)
            is_sum = total is not None and total.name().startswith("Add")
            if candidate and is_sum and len(parents_of(total)) > 1 and by.node not in nodes:
                nodes.add(by.node)
                yield replace(candidate, is_stream=True)

    def outputs(self) -> Iterator[Candidate]:
        """Yields what modules return."""
        for path, by in self.returned.items():
            candidate = self._place(by)
            if candidate is not None and path:
                yield candidate

    def located(self, candidates: Iterable[Candidate]) -> Iterator[Candidate]:
        """Yields the candidates with their strays, at the module that really ends there.

        A block's input, or its BatchNorm, belongs to the block before it. ShuffleNet's stages,
        for instance, may leave their last ReLU to the first unit of the next one.
        """
        candidates = list(candidates)
        places = {path: self._place(by, unspoilt=False) for path, by in self.returned.items()}
        self.ends_at = {path: place.level for path, place in places.items() if place is not None}
        self.levels: dict[str, set[int]] = {}
        for candidate in candidates:
            for path in _around(candidate.tap.path):
                self.levels.setdefault(path, set()).add(candidate.level)
        for candidate in candidates:
            level, node = candidate.level, candidate.node
            strays = self._strays(candidate.tap.path, level)
            makers = [path for path in self._makers(node) if candidate.tap.side == "input"]
            best = min((self._strays(path, level) for path in makers), default=strays)
            if best < strays:
                # The largest such block, for its short name.
                path = [path for path in makers if self._strays(path, level) == best][-1]
                there = self._place(self.returned[path])
                tap = there.tap if there is not None else candidate.tap
                yield replace(candidate, tap=tap, strays=best)
                continue
            before = parents_of(node)[:1] if node is not None and "Norm" in node.name() else []
            paths = [path for parent in before for path in self._makers(parent)]
            best = min((self._strays(path, level) for path in paths), default=strays)
            yield replace(candidate, strays=min(best, strays))

    def _strays(self, path: str, level: int) -> int:
        return sum(
            self.ends_at.get(outer, level) != level
            for outer in _around(path)
            if len(self.levels.get(outer, ())) < _TRUNK_LEVELS
        )

    def _makers(self, node: Node) -> list[str]:
        """Returns the modules whose output a node made, at their last call, small to large."""
        return [
            path
            for path in self.trace.makers.get(node, [])
            if path and path in self.returned and self.returned[path].node is node
            if not self.returned[path].overwritten
        ]

    def _place(self, by: Sighting, unspoilt: bool = True) -> Candidate | None:
        """Turns a sighting of maps of the image into a candidate, others into `None`."""
        reading = self._read(by)
        if reading is None or (by.overwritten and unspoilt):
            return None
        tap, area = reading
        return Candidate(tap, by.node, by.tick, self.level_of[area])

    def _read(self, by: Sighting) -> tuple[Tap, int] | None:
        """Reads a sighting as maps of the image: the tap with its layout, and H · W."""
        tensor, size = by.tensor, self.trace.image_size
        dims = (3, 4) if self.strict else (2, 3, 4)
        if tensor.dim() not in dims or tensor.shape[0] != 1 or not tensor.numel():
            return None
        if not tensor.is_floating_point():
            return None
        tap = Tap(by.path, by.side).with_layout(tensor, size)
        height, width = tap.read(tensor, size).shape[2:]
        fits = height * width > 1 and misfit((height, width), size) <= max(1, 0.2 * height)
        return None if self.strict and not fits else (tap, height * width)

    def _activations(self) -> Iterator[tuple[Sighting, Node]]:
        """Yields what goes into each activation, and the operation that activates it.

        Functions have no input to tap. It is what a module returned just before; if that is
        overwritten in place, then what the module around the function returns; then what the
        norm in front of the function reads.
        """
        for by in self.activated:
            yield by, self.returned[by.path].node
        done: set[Node] = set()
        spoilt: list[tuple[Sighting, Node]] = []
        for by in self.returned.values():
            for after in filter(self._is_function, self.trace.consumers.get(by.node, [])):
                if by.overwritten:
                    spoilt.append((by, after))
                elif after not in done:
                    done.add(after)
                    yield by, after
        for by in self.returned.values():
            if by.node is not None and self._is_function(by.node) and by.node not in done:
                done.add(by.node)
                yield by, by.node
        for by, after in spoilt:
            source = self.trace.sightings.get((by.path, "input"))
            if after not in done and source is not None and "Norm" in by.node.name():
                done.add(after)
                yield source, after

    def _is_activated(self, node: Node) -> bool:
        """Tells whether a tensor comes out of an activation, through pooling at most."""
        while node is not None and (is_reshaping(node) or "Pool" in node.name()):
            node = next(iter(parents_of(node)), None)
        makers = self.trace.makers.get(node, [])
        activated = any(is_activation(self.trace.modules[path]) for path in makers)
        return node is not None and (activated or self._is_function(node))

    def _is_function(self, node: Node) -> bool:
        makers = self.trace.makers.get(node, [])
        return bool(node.name().startswith(_ACTIVATIONS)) and not any(
            is_activation(self.trace.modules[path]) for path in makers
        )

    def _is_in_mlp(self, by: Sighting) -> bool:
        """Tells whether an activation reads a linear layer, at many positions of the image.

        A bare 1x1 convolution is one, too, if its block returns a residual sum.
        """
        tensor = by.tensor
        if self._reads_conv(by):
            return True
        if tensor.dim() < 3 or tensor.numel() == tensor.shape[0] * tensor.shape[-1]:
            return False
        node = by.node
        while node is not None:
            makers = self.trace.makers.get(node, [])
            if any(isinstance(self.trace.modules[path], nn.Linear) for path in makers):
                return True
            if not is_reshaping(node) and not node.name().startswith(("Split", "Slice")):
                break
            node = next(iter(parents_of(node)), None)
        return tensor.dim() == 3

    def _reads_conv(self, by: Sighting) -> bool:
        """Tells whether an activation reads a 1x1 convolution, at many positions."""
        makers = [self.trace.modules[path] for path in self.trace.makers.get(by.node, [])]
        is_map = by.tensor.dim() == 4 and by.tensor[0, 0].numel() > 1
        return is_map and any(
            isinstance(made, nn.Conv2d) and made.kernel_size == (1, 1) for made in makers
        )

    def _joined(self, node: Node, level: int) -> Candidate | None:
        """Follows an activation that is one branch of a concatenation to the whole.

        Branches of Inception and ShuffleNet end in activations of their own. What a module
        returns is all of them together.
        """
        todo = [(node, False)]
        while todo:
            current, joined = todo.pop()
            for path in self._makers(current) if joined else ():
                candidate = self._place(self.returned[path])
                if candidate is not None and candidate.level == level:
                    return candidate
            for after in self.trace.consumers.get(current, []):
                is_join = after.name().startswith("Cat")
                if is_join or is_reshaping(after):
                    todo.append((after, joined or is_join))
        return None


def _levels(areas: Iterable[int], image_area: int) -> dict[int, int]:
    """Returns the level of each area: how often the image was halved until then.

    Counted from level to level, since rounding and borders add up: 33 px become 17, 9, 5, 3.
    """
    level, above, levels = 0, image_area, {}
    for area in sorted(areas, reverse=True):
        ratio = math.sqrt(above / area)
        # Without padding, 6 and 7 px become 2 and 3 px in one step.
        step = 1 if math.sqrt(2) < ratio <= 3 else round(math.log2(ratio))
        if step:
            level, above = level + step, area
        levels[area] = level
    return levels


def _is_inside(path: str, outer: str) -> bool:
    return path.startswith(f"{outer}.")


def _around(path: str) -> list[str]:
    """Returns the modules around a module, without the network itself."""
    return list(accumulate(path.split(".")[:-1], lambda outer, name: f"{outer}.{name}"))

"""Blocks: whether a candidate lies at the end of a stage or on the way to the next one.

A block is a module around a candidate. If the block returns maps of another level, a candidate
inside it is usually no stage end: the expansion in front of a strided convolution has the old
size, but belongs to the way to the next stage.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from torch.autograd.graph import Node

from mgd.inside.graph import is_norm, parents_of
from mgd.inside.maps import Candidate, FeatureMaps

# A module with candidates of this many levels inside is the trunk of the network, not a block.
_TRUNK_LEVELS = 3


def place_in_blocks(maps: FeatureMaps, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Returns the candidates with their number of level changes, each at the block it belongs to.

    A block's input belongs to the block before it, and so does the norm of that input. ShuffleNet's
    stages, for instance, may leave their last ReLU to the first unit of the next stage.

    Args:
        maps: The feature maps that the candidates come from.
        candidates: Places in the network.
    """
    blocks = _Blocks(maps, candidates)
    return [blocks.place(candidate) for candidate in candidates]


class _Blocks:
    """The blocks of a network, with the levels that they return and contain."""

    def __init__(self, maps: FeatureMaps, candidates: Sequence[Candidate]):
        self.maps, self.trace = maps, maps.trace
        self.level_returned: dict[str, int] = {}
        for path, sighting in self.trace.returned.items():
            returned = maps.candidate(sighting, allow_overwritten=True)
            if returned is not None:
                self.level_returned[path] = returned.level
        self.levels_inside: dict[str, set[int]] = {}
        for candidate in candidates:
            for block in _blocks_around(candidate.tap.path):
                self.levels_inside.setdefault(block, set()).add(candidate.level)

    def place(self, candidate: Candidate) -> Candidate:
        """Returns a candidate with its number of level changes, at its own block."""
        changes = self.level_changes(candidate.tap.path, candidate.level)
        makers = self.trace.intact_makers_of(candidate.node)
        if candidate.tap.side == "input" and makers:
            fewest = min(self.level_changes(path, candidate.level) for path in makers)
            if fewest < changes:
                return self._moved(candidate, makers, fewest)
        makers = self._makers_before_norm(candidate.node)
        counts = [self.level_changes(path, candidate.level) for path in makers]
        return replace(candidate, level_changes=min([changes, *counts]))

    def _moved(self, candidate: Candidate, makers: list[str], changes: int) -> Candidate:
        """Returns a candidate at the output of the module that made what it reads."""
        fitting = [path for path in makers if self.level_changes(path, candidate.level) == changes]
        # All return the same tensor; the outermost has the shortest name.
        there = self.maps.candidate(self.trace.returned[fitting[-1]])
        tap = there.tap if there is not None else candidate.tap
        return replace(candidate, tap=tap, level_changes=changes)

    def _makers_before_norm(self, node: Node | None) -> list[str]:
        """Returns the modules that return the input of a norm, if the operation is one."""
        if node is None or not is_norm(node):
            return []
        source = next(iter(parents_of(node)), None)
        return self.trace.intact_makers_of(source)

    def level_changes(self, path: str, level: int) -> int:
        """Returns how many blocks around a module return maps of another level."""
        return sum(
            self.level_returned.get(block, level) != level
            for block in _blocks_around(path)
            if len(self.levels_inside.get(block, ())) < _TRUNK_LEVELS
        )


def _blocks_around(path: str) -> list[str]:
    """Returns the paths of the modules around a module, without the network itself."""
    return list(accumulate(path.split(".")[:-1], lambda outer, name: f"{outer}.{name}"))

"""Discovery looks at two networks from outside and says where to distil.

One probe forward of each network, in eval mode, finds shapes and, by walking the autograd
graph back from a tap, the BatchNorm in front of it. Neither network is edited.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mgd.errors import TapError
from mgd.taps import Tap, TappedModel

Node = Any
"""A node of the autograd graph."""


@dataclass(frozen=True)
class Reading:
    """What a tap reads from one image."""

    tap: Tap
    channels: int
    height: int
    width: int
    norm: str | None
    """Path of the BatchNorm whose output, plus a shortcut at most, the tap reads."""


@dataclass(frozen=True)
class PointPair:
    """A place in the teacher and the place in the student that should follow it."""

    teacher: Tap
    student: Tap
    norm: str | None = None
    """Teacher BatchNorm that gives the margins; `None` measures them from features."""
    teacher_shape: tuple[int, int, int] = (0, 0, 0)
    """(C, H, W) of one image."""
    student_shape: tuple[int, int, int] = (0, 0, 0)

    @property
    def name(self) -> str:
        """How logs and errors call the pair."""
        return f"{self.teacher.path} -> {self.student.path}"

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) at which the two are compared: the smaller of both in each direction."""
        (_, *teacher), (_, *student) = self.teacher_shape, self.student_shape
        return min(teacher[0], student[0]), min(teacher[1], student[1])


PairLike = PointPair | tuple[str | Tap, str | Tap]


def resolve_points(
    teacher: nn.Module, student: nn.Module, example: Tensor, pairs: Iterable[PairLike]
) -> list[PointPair]:
    """Turns pairs of module paths into checked pairs, with shapes and the teacher's norms.

    Args:
        teacher, student: The two networks.
        example: A batch of images as the networks take it; one is enough.
        pairs: `(teacher path, student path)`, paths as in `Tap.parse`, or `PointPair`s, whose
            `norm` is kept.

    Raises:
        TapError: For an unknown path, a tap that does not fire or is overwritten, or a pair
            that cannot be compared.

    Example:
        >>> resolve_points(resnet50, mobilenet, images, [("layer4.2.relu", "features.18")])
    """
    given = list(pairs)
    if not given:
        raise TapError("no points were given; name at least one (teacher path, student path)")
    sides = [(p.teacher, p.student) if isinstance(p, PointPair) else p for p in given]
    teachers = probe(teacher, [_as_tap(teacher, pair[0]) for pair in sides], example)
    students = probe(student, [_as_tap(student, pair[1]) for pair in sides], example)
    return [
        PointPair(
            seen.tap,
            by.tap,
            pair.norm if isinstance(pair, PointPair) and pair.norm else seen.norm,
            (seen.channels, seen.height, seen.width),
            (by.channels, by.height, by.width),
        )
        for pair, seen, by in zip(given, teachers, students, strict=True)
    ]


def _as_tap(network: nn.Module, tap: str | Tap) -> Tap:
    return Tap.parse(network, str(tap))


def probe(network: nn.Module, taps: Sequence[Tap], example: Tensor) -> list[Reading]:
    """Runs the network once on `example` and reports what each tap reads.

    Raises:
        TapError: As `TappedModel.check`.
    """
    tapped = TappedModel(network, taps)
    size = (example.shape[-2], example.shape[-1])
    norms: dict[Node, str] = {}
    try:
        with evaluating(network), _noting_norms(network, norms), torch.enable_grad():
            tapped.check(example)
            # A leaf that needs gradients must not be written to; its product may.
            images = example.detach().requires_grad_() * 1
            frame: dict[int, Tensor] = {}
            tapped._run(images, frame)
        readings = []
        for index, tap in enumerate(taps):
            tensor = frame[index]
            settled = tap.with_layout(tensor, size)
            maps = settled.read(tensor, size)
            norm = _norm_in_front(tensor.grad_fn, norms)
            if norm is not None and _num_features(network, norm) != maps.shape[1]:
                norm = None
            _, channels, height, width = maps.shape
            readings.append(Reading(settled, channels, height, width, norm))
        return readings
    finally:
        tapped.close()


def _num_features(network: nn.Module, norm: str) -> int:
    module = network.get_submodule(norm)
    return module.num_features if isinstance(module, _BatchNorm) else 0


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Puts networks into eval mode and gives every module its own mode back."""
    modes = [(module, module.training) for network in networks for module in network.modules()]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _noting_norms(network: nn.Module, norms: dict[Node, str]) -> Iterator[None]:
    """Notes which autograd node each BatchNorm makes.

    The walk from the module's output to its BatchNorm node passes the activation of fused
    norm-act modules.
    """

    def note(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            node = output.grad_fn if isinstance(output, Tensor) else None
            while node is not None and "BatchNorm" not in node.name():
                node = next((parent for parent, _ in node.next_functions if parent), None)
            if node is not None:
                norms[node] = path

        return hook

    handles = [
        module.register_forward_hook(note(path))
        for path, module in network.named_modules()
        if isinstance(module, _BatchNorm)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


# Through these a normal distribution stays what the BatchNorm made it, shortcuts aside.
_TRANSPARENT = ("Add", "View", "Reshape", "Permute", "Transpose", "Clone", "Alias", "Contiguous")


def _norm_in_front(node: Node, norms: dict[Node, str]) -> str | None:
    """Finds the BatchNorm in front of a tensor: of several, the one on the main branch.

    Behind a residual sum stand two: the shortcut's and the main branch's. The main branch is
    the longer one, so its BatchNorm lies deepest below the input.
    """
    found, todo, seen = [], [node], set()
    while todo:
        current = todo.pop()
        if current is None or current in seen:
            continue
        seen.add(current)
        if current in norms:
            found.append(current)
        elif current.name().removeprefix("Unsafe").startswith(_TRANSPARENT):
            todo.extend(parent for parent, _ in current.next_functions)
    if not found:
        return None
    depths: dict[Node, int] = {}
    return norms[max(found, key=lambda norm: _depth(norm, depths))]


def _depth(node: Node, depths: dict[Node, int]) -> int:
    """Returns the longest way from a node back to the input; networks are too deep to recurse."""
    stack = [node]
    while stack:
        current = stack[-1]
        parents = [parent for parent, _ in current.next_functions if parent is not None]
        missing = [parent for parent in parents if parent not in depths]
        if missing:
            stack.extend(missing)
        else:
            depths[current] = 1 + max((depths[parent] for parent in parents), default=0)
            stack.pop()
    return depths[node]

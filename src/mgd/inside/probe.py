"""A probe runs a network once and notes what goes into and comes out of every module.

The network runs in eval mode on one image and is left as it was. The probe keeps the tensors
together with autograd's graph, which tells how they are computed from one another.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

# Private, but the only class that BatchNorm1d to 3d, SyncBatchNorm and users' own have in common.
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import FrozenBatchNorm2d

from mgd.errors import InputError, TapError
from mgd.inside.canvas import Images, canvas_of
from mgd.inside.graph import (
    consumers_of,
    first_before,
    is_activation_function,
    is_batch_norm,
    is_convolution,
    is_norm,
    is_sum,
    main_branch_norm,
)
from mgd.inside.handover import Handover
from mgd.inside.inplace import out_of_place, times_written
from mgd.inside.modes import constant_weights, evaluating
from mgd.inside.outputs import tensors_in
from mgd.inside.tap import Side, Tap, is_activation
from mgd.inside.tapped import TappedModel


@dataclass(frozen=True)
class Reading:
    """What a tap reads from one image."""

    tap: Tap
    """The tap, with its layout."""
    channels: int
    height: int
    width: int
    norm: str | None
    """Path of the BatchNorm whose output the tap reads, possibly with a shortcut added to it."""
    linear: bool
    """Whether no ReLU lies behind: at a pyramid's levels, and where a convolution's result is read
    by no activation, norm or sum, as class scores are."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width


# Compared by identity: tensors have no single answer to `==`.
@dataclass(frozen=True, eq=False)
class Sighting:
    """A tensor that went into or came out of a module at the module's last call."""

    path: str
    """Path of the module."""
    side: Side
    order: int
    """Number of this event, where all calls and returns of the forward are counted from 1."""
    tensor: Tensor
    node: Node | None
    """The operation that made the tensor; `None` if it does not depend on the images."""
    writes: int
    """How often the tensor had been written to until then."""

    @property
    def overwritten(self) -> bool:
        """Whether the tensor was written to in place after it was seen."""
        return times_written(self.tensor) != self.writes


class Trace:
    """What a probe saw in one forward of a network.

    Args:
        network: The network to run.
        example: Images as the network takes them. Only the first one is used.

    Raises:
        InputError: If the network cannot run on the example.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        >>> trace = Trace(network, torch.zeros(1, 3, 8, 8))
        >>> reading = trace.read(Tap("2", "input"))
        >>> reading.shape, reading.norm
        ((8, 6, 6), '1')
    """

    def __init__(self, network: nn.Module, example: Images):
        self.network = network
        self.image_size = canvas_of(network, example[:1]).size
        self.modules = dict(network.named_modules())
        self.sightings: dict[tuple[str, Side], Sighting] = {}
        self.handover = Handover()
        self._makers: dict[Node, list[str]] = {}
        self._batch_norms: dict[Node, str] = {}
        self._num_events = 0
        with ExitStack() as stack:
            for context in (evaluating, constant_weights, out_of_place):
                stack.enter_context(context(network))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(self._noting())
            output = _run(network, example[:1])
        nodes = [tensor.grad_fn for tensor in tensors_in(output)]
        self._consumers = consumers_of(node for node in nodes if node is not None)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        handles = []
        for path, module in self.modules.items():
            handles.append(module.register_forward_pre_hook(partial(self._note_input, path)))
            handles.append(module.register_forward_hook(partial(self._note_output, path)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _note(self, path: str, side: Side, tensor: Any) -> None:
        self._num_events += 1
        if isinstance(tensor, Tensor):
            self.sightings[path, side] = Sighting(
                path, side, self._num_events, tensor, tensor.grad_fn, times_written(tensor)
            )

    def _note_input(self, path: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._note(path, "input", args[0] if args else None)

    def _note_output(
        self, path: str, module: nn.Module, args: tuple[Any, ...], output: Any
    ) -> None:
        self._note(path, "output", output)
        self.handover.note(path, output)
        if not isinstance(output, Tensor) or output.grad_fn is None:
            return
        self._makers.setdefault(output.grad_fn, []).append(path)
        if isinstance(module, _BatchNorm):
            # timm's fused modules apply an activation behind the BatchNorm.
            norm = first_before(output.grad_fn, lambda node: not is_batch_norm(node))
            if norm is not None:
                self._batch_norms[norm] = path
        elif isinstance(module, FrozenBatchNorm2d):  # a product and a sum
            self._batch_norms[output.grad_fn] = path

    @cached_property
    def returned(self) -> dict[str, Sighting]:
        """What each module returned at its last call, by the module's path."""
        seen = self.sightings.values()
        return {sighting.path: sighting for sighting in seen if sighting.side == "output"}

    def makers_of(self, node: Node | None) -> list[nn.Module]:
        """Returns the modules that return an operation's result, the innermost first."""
        return [self.modules[path] for path in self._paths_of_makers(node)]

    def intact_makers_of(self, node: Node | None) -> list[str]:
        """Returns the paths of those where a tap can read the result, the innermost first.

        Left out are the network itself, modules that return something else at their last call,
        and modules whose output is overwritten later.
        """
        return [
            path
            for path in self._paths_of_makers(node)
            if path and path in self.returned and self.returned[path].node is node
            if not self.returned[path].overwritten
        ]

    def _paths_of_makers(self, node: Node | None) -> list[str]:
        return [] if node is None else self._makers.get(node, [])

    def consumers_of(self, node: Node | None) -> list[Node]:
        """Returns the operations that read the result of an operation."""
        return [] if node is None else self._consumers.get(node, [])

    def read(self, tap: Tap) -> Reading:
        """Returns what a tap reads.

        Raises:
            TapError: If its module was not called, or has no features there.
        """
        sighting = self.sightings.get((tap.path, tap.side))
        if sighting is None:
            raise TapError(
                f"tap '{tap}' did not fire with a tensor: the network's forward does not call "
                "that module, or passes it something else; choose another module"
            )
        tap = tap.with_layout(sighting.tensor, self.image_size)
        _, channels, height, width = tap.read(sighting.tensor, self.image_size).shape
        node = main_branch_norm(sighting.node, self._batch_norms)
        norm = None if node is None else self._batch_norms[node]
        # Reshaping may have moved the channels: pixel shuffling, for instance.
        if norm is not None and batch_norm_channels(self.modules[norm]) != channels:
            norm = None
        return Reading(tap, channels, height, width, norm, self._is_linear(sighting.node))

    def _is_linear(self, node: Node | None) -> bool:
        if node is None or node in self.handover.levels:
            return node is not None
        activated = {
            sighting.node
            for sighting in self.sightings.values()
            if sighting.side == "input" and is_activation(self.modules[sighting.path])
        }
        bends = (is_activation_function, is_norm, is_sum)
        is_read = any(bend(reader) for reader in self.consumers_of(node) for bend in bends)
        return is_convolution(node) and node not in activated and not is_read


def probe(network: nn.Module, taps: list[Tap], example: Images) -> list[Reading]:
    """Checks taps and reports what each of them reads.

    Args:
        network: The network that the taps belong to; it is left as it was.
        taps: Places inside it.
        example: Images as the network takes them.

    Raises:
        TapError: As `TappedModel.check` and `Trace.read`.
        InputError: If the network cannot run on the example.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        >>> [reading] = probe(network, [Tap("0")], torch.zeros(1, 3, 8, 8))
        >>> reading.shape
        (8, 6, 6)
    """
    tapped = TappedModel(network, taps)
    try:
        with evaluating(network):
            tapped.check(example)
    finally:
        tapped.close()
    trace = Trace(network, example)
    return [trace.read(tap) for tap in taps]


def batch_norm_channels(module: nn.Module) -> int:
    """Returns the number of channels of a BatchNorm, frozen or not; 0 for any other module.

    Example:
        >>> batch_norm_channels(nn.BatchNorm2d(8)), batch_norm_channels(nn.LayerNorm(8))
        (8, 0)
    """
    if isinstance(module, FrozenBatchNorm2d):
        return len(module.weight)
    return module.num_features if isinstance(module, _BatchNorm) else 0


def _run(network: nn.Module, images: Images) -> Any:
    # A leaf that needs gradients must not be written to in place; its product may be.
    if isinstance(images, Tensor):
        given, shape = images.detach().requires_grad_() * 1, tuple(images.shape)
    else:
        given = [image.detach().requires_grad_() * 1 for image in images]
        shape = tuple(images[0].shape)
    try:
        return network(given)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise InputError(
            f"{type(network).__name__} cannot run on an example of shape {shape}: "
            f"{error}; give images of the size and channels that it takes"
        ) from error

"""Taps read tensors inside a network that is never edited.

A tap is a place: the input or the output of a module, named by its path. "Pre-activation" is
the *input of the activation module at its last call*: a residual block calls its one ReLU
several times, and the last is the block's sum.
"""

import difflib
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mgd.errors import TapError

Side = Literal["input", "output"]
Layout = Literal["NCHW", "NHWC", "NLC"]
ImageSize = tuple[int, int]
Frame = dict[int, Any]
"""What the taps read in one forward, by their number: tensors, unless a tap is misplaced."""


@dataclass(frozen=True)
class Tap:
    """A place in a network; prints and parses as `path:side:layout`, `vit.norm:output:NLC+1`."""

    path: str
    """Module path, as in `network.named_modules()`."""
    side: Side = "output"
    layout: Layout | None = None
    """Order of the axes; `NLC` are tokens. `None` is found out when the network is probed."""
    prefix_tokens: int = 0
    """Tokens in front that are no positions of the image (class and register tokens)."""

    def __str__(self) -> str:
        text = f"{self.path}:{self.side}"
        if self.layout in (None, "NCHW"):
            return text
        return f"{text}:{self.layout}" + (f"+{self.prefix_tokens}" if self.prefix_tokens else "")

    @classmethod
    def parse(cls, network: nn.Module, text: str) -> "Tap":
        """Reads `path`, `path:side` or `path:side:layout` and checks it against the network.

        Without a side, an activation is tapped at its input and anything else at its output.

        Raises:
            TapError: For a path that the network lacks, naming the nearest ones.
        """
        path, _, rest = text.partition(":")
        side, _, layout = rest.partition(":")
        layout, _, prefix = layout.partition("+")
        module = find_module(network, path)
        side = side or ("input" if is_activation(module) else "output")
        well_formed = side in get_args(Side) and layout in ("", *get_args(Layout))
        if not well_formed or not (prefix or "0").isdigit():
            raise TapError(
                f"tap '{text}' is not of the form path, path:input, path:output or "
                "path:output:LAYOUT with LAYOUT one of NCHW, NHWC, NLC, NLC+1"
            )
        return cls(path, cast(Side, side), cast(Layout, layout) or None, int(prefix or 0))

    def read(self, tensor: Tensor, image_size: ImageSize) -> Tensor:
        """Returns what the tap captured as maps (B, C, H, W), a view where possible."""
        if self.layout == "NHWC":
            return tensor.permute(0, 3, 1, 2)
        if self.layout == "NLC":
            tokens = tensor[:, self.prefix_tokens :].transpose(1, 2)
            grid = token_grid(tokens.shape[2], image_size) or (tokens.shape[2], 1)
            return tokens.reshape(*tokens.shape[:2], *grid)
        return tensor if tensor.dim() == 4 else tensor[:, :, None, None]

    def with_layout(self, tensor: Tensor, image_size: ImageSize) -> "Tap":
        """Settles the layout from a captured tensor, unless it was given.

        Raises:
            TapError: If the tensor cannot be features of a batch of images.
        """
        if tensor.dim() not in (2, 3, 4) or not tensor.is_floating_point():
            raise TapError(
                f"tap '{self}' reads a {tensor.dtype} tensor of shape {tuple(tensor.shape)}; "
                "needed are features (B, C, H, W), (B, H, W, C), (B, tokens, C) or (B, C)"
            )
        if self.layout is not None:
            return self
        if tensor.dim() == 4:
            _, first, second, third = tensor.shape
            upright, turned = (
                misfit((second, third), image_size),
                misfit((first, second), image_size),
            )
            # Within a row, rounding may be the reason; a map may be as wide as it has channels.
            return replace(self, layout="NHWC" if turned < upright > 1 else "NCHW")
        if tensor.dim() == 2:
            return replace(self, layout="NCHW")
        length = tensor.shape[1]
        prefixes = (n for n in range(min(length, 9)) if token_grid(length - n, image_size))
        return replace(self, layout="NLC", prefix_tokens=next(prefixes, 0))


def token_grid(length: int, image_size: ImageSize) -> ImageSize | None:
    """Returns (height, width) of a grid of tokens in the image's proportions, or `None`."""
    height = round(math.sqrt(length * image_size[0] / image_size[1]))
    width = round(math.sqrt(length * image_size[1] / image_size[0]))
    return (height, width) if length and height * width == length else None


def misfit(grid: ImageSize, image_size: ImageSize) -> float:
    """Returns by how many rows a grid misses the image's proportions."""
    return abs(grid[0] - grid[1] * image_size[0] / image_size[1])


def is_activation(module: nn.Module) -> bool:
    """Tells whether a module is an activation function, of torch or of timm."""
    home = type(module).__module__
    if isinstance(module, (nn.MultiheadAttention, nn.Softmax, nn.LogSoftmax)):
        return False
    return home == "torch.nn.modules.activation" or home.startswith("timm.layers.activations")


def find_module(network: nn.Module, path: str) -> nn.Module:
    """Returns the module at a path.

    Raises:
        TapError: If there is none; the message names the nearest existing paths.
    """
    modules: dict[str, nn.Module] = dict(network.named_modules())
    if path in modules:
        return modules[path]
    near = difflib.get_close_matches(path, [name for name in modules if name], n=3, cutoff=0.3)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    raise TapError(f"{type(network).__name__} has no module '{path}'{hint}")


class _Hook:
    """Puts one tap's tensor into the frame of the forward that runs in this thread.

    Outside such a forward it does nothing, so the user's own calls hold no memory. A copy of
    the network, deep or pickled, gets a hook that never does anything.
    """

    def __init__(self, frames: dict[int, Frame] | None = None, index: int = 0):
        self.frames = frames if frames is not None else {}
        self.index = index

    def __reduce__(self) -> tuple[type["_Hook"], tuple[()]]:
        return _Hook, ()

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any = None) -> None:
        frame = self.frames.get(_frame_key())
        if frame is not None:
            source = args[0] if args else None
            frame[self.index] = source if output is None else output


def _frame_key() -> int:
    # DataParallel runs replicas, which share their hooks, in threads of one process. A compiled
    # forward has one thread, and its tracer cannot ask for it.
    return 0 if torch.compiler.is_compiling() else threading.get_ident()


class TappedModel(nn.Module):
    """Runs a network and returns what its taps read beside what it returns.

    The network stays the user's: the same object, state-dict keys and outputs. Between calls
    it carries only idle hooks, and none after `close()`.

    Args:
        network: Any module.
        taps: Places inside it.

    Example:
        >>> tapped = TappedModel(resnet, [Tap.parse(resnet, "layer4.2.relu")])
        >>> (features,), logits = tapped(images)
    """

    def __init__(self, network: nn.Module, taps: Sequence[Tap]):
        super().__init__()
        self.network = network
        self.taps = tuple(taps)
        self._frames: dict[int, Frame] = {}
        self._made_out_of_place: list[Any] = []
        self._handles = []
        for index, tap in enumerate(self.taps):
            module = find_module(network, tap.path)
            hook = _Hook(self._frames, index)
            install = (
                module.register_forward_pre_hook
                if tap.side == "input"
                else module.register_forward_hook
            )
            self._handles.append(install(hook))

    def __reduce__(self) -> tuple[type["TappedModel"], tuple[Any, ...]]:
        return TappedModel, (self.network, self.taps)

    def forward(self, images: Tensor) -> tuple[tuple[Tensor, ...], Any]:
        """Returns the taps' features, (B, C, H, W) each, and the network's own output.

        Raises:
            TapError: If a tap does not fire or reads no tensor.
        """
        frame: Frame = {}
        output = self._run(images, frame)
        size = (images.shape[-2], images.shape[-1])
        features = tuple(
            tap.read(_captured(frame, index, tap), size) for index, tap in enumerate(self.taps)
        )
        return features, output

    def _run(self, images: Tensor, frame: Frame) -> Any:
        key = _frame_key()
        self._frames[key] = frame
        try:
            return self.network(images)
        finally:
            del self._frames[key]

    @torch.no_grad()
    def check(self, images: Tensor) -> None:
        """Runs one forward that finds taps which are overwritten after they were read.

        An in-place activation module that does so is made out-of-place until `close()`.

        Raises:
            TapError: If something else overwrites a tap, if the network's output depends on
                the overwriting, or if a tap does not fire.
        """
        frame = _VersionedFrame()

        def defuse(module: nn.Module, args: tuple[Any, ...]) -> None:
            if args and _storage(args[0]) in {_storage(tensor) for tensor in frame.values()}:
                setattr(module, "inplace", False)  # noqa: B010
                self._made_out_of_place.append(module)

        handles = [
            module.register_forward_pre_hook(defuse)
            for module in self.network.modules()
            if getattr(module, "inplace", False) is True
        ]
        try:
            output = self._run(images, frame)
        finally:
            for handle in handles:
                handle.remove()
        if self._made_out_of_place:
            self._check_function(images, output)
        for index, tap in enumerate(self.taps):
            if _captured(frame, index, tap)._version != frame.versions[index]:
                raise TapError(
                    f"tap '{tap}' is overwritten in place after it was read, as `x += y` or "
                    "`F.relu(x, inplace=True)` do; tap the input of the activation behind it, "
                    "or the output of the block around it"
                )

    def _check_function(self, images: Tensor, output: Any) -> None:
        """Runs the network as it was: others may have counted on what was overwritten."""
        self._set_inplace(True)
        original = self.network(images)
        self._set_inplace(False)
        pairs = zip(tree_leaves(original), tree_leaves(output), strict=True)
        for was, now in pairs:
            if isinstance(was, Tensor) and not torch.allclose(
                was, now, rtol=1e-3, atol=1e-3 * float(was.abs().max()), equal_nan=True
            ):
                taps = ", ".join(map(str, self.taps))
                raise TapError(
                    f"{type(self.network).__name__} computes something else once the in-place "
                    f"activations behind the taps ({taps}) spare what they read, because another "
                    "module reads it too; tap other places, or set inplace=False in the network "
                    "if that is what it should compute"
                )

    def _set_inplace(self, inplace: bool) -> None:
        for module in self._made_out_of_place:
            module.inplace = inplace

    def close(self) -> None:
        """Removes every hook and gives in-place activations back as they were."""
        for handle in self._handles:
            handle.remove()
        for module in self._made_out_of_place:
            setattr(module, "inplace", True)  # noqa: B010
        self._handles, self._made_out_of_place = [], []


class _VersionedFrame(Frame):
    """Remembers how often each tensor had been written to when its tap read it."""

    def __init__(self) -> None:
        super().__init__()
        self.versions: dict[int, int] = {}

    def __setitem__(self, index: int, tensor: Any) -> None:
        super().__setitem__(index, tensor)
        self.versions[index] = tensor._version if isinstance(tensor, Tensor) else 0


def _storage(value: Any) -> int | None:
    """Identifies the memory behind a tensor; views of one tensor share it."""
    return value.untyped_storage().data_ptr() if isinstance(value, Tensor) else None


def _captured(frame: Frame, index: int, tap: Tap) -> Tensor:
    if index not in frame:
        raise TapError(
            f"tap '{tap}' did not fire: the network's forward does not call that module; "
            "choose one that it calls"
        )
    tensor = frame[index]
    if not isinstance(tensor, Tensor):
        raise TapError(
            f"tap '{tap}' reads a {type(tensor).__name__}, not a tensor; "
            "tap a module inside that returns one"
        )
    return tensor

"""A tap names a place in a network: the input or the output of one module.

A tap also knows how to read the tensor at that place as maps (B, C, H, W). A tap on the input of
a module reads the module's *last call*. This matters in a residual block that calls its one ReLU
several times: the last call reads the sum of the block.
"""

import difflib
import math
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from torch import Tensor, nn

from mgd.errors import TapError

Side = Literal["input", "output"]
Layout = Literal["NCHW", "NHWC", "NLC"]
ImageSize = tuple[int, int]
"""(height, width) in pixels or, for a grid, in positions."""

# DINOv3 has five such tokens: a class token and four registers. Eight leaves some room.
_MAX_PREFIX_TOKENS = 8


@dataclass(frozen=True)
class Tap:
    """A place in a network, with the layout of the tensor there.

    As text, a tap is `path:side:layout`. `vit.norm:output:NLC+1` is the output of the module
    `vit.norm`: tokens, of which the first is no position of the image. The layout `NCHW` is not
    printed.

    Example:
        >>> from torch import nn
        >>> from mgd.inside import Tap
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        >>> tap = Tap.parse(network, "1")
        >>> tap.path, tap.side
        ('1', 'input')
        >>> print(tap)
        1:input
    """

    path: str
    """Path of the module, as in `network.named_modules()`."""
    side: Side = "output"
    """Whether what goes into the module is read, or what comes out of it."""
    layout: Layout | None = None
    """Order of the axes. `NLC` stands for tokens. With `None`, the probe finds the layout."""
    prefix_tokens: int = 0
    """Number of leading tokens that are no positions of the image: class, register tokens."""

    def __str__(self) -> str:
        text = f"{self.path}:{self.side}"
        if self.layout in (None, "NCHW"):
            return text
        return f"{text}:{self.layout}" + (f"+{self.prefix_tokens}" if self.prefix_tokens else "")

    @classmethod
    def parse(cls, network: nn.Module, text: str) -> "Tap":
        """Reads a tap from text and checks it against a network.

        Args:
            network: The network that the tap belongs to.
            text: `path`, `path:side` or `path:side:layout`. Without a side, an activation module
                is tapped at its input, so before the activation, and any other module at its
                output.

        Raises:
            TapError: If the text has another form, or if the network has no module at the path.
                The message names the nearest existing paths.

        Example:
            >>> from torch import nn
            >>> Tap.parse(nn.Sequential(nn.Conv2d(3, 8, 3)), "0:output:NHWC").layout
            'NHWC'
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
        """Returns a captured tensor as maps (B, C, H, W), as a view where possible.

        Args:
            tensor: What the tap captured, in the tap's layout. Features without positions (B, C)
                become maps of one position.
            image_size: (height, width) of the images in pixels. It gives the proportions of a
                grid of tokens. Tokens that fill no such grid become one column.

        Example:
            >>> import torch
            >>> tokens = torch.zeros(2, 1 + 14 * 14, 192)
            >>> tap = Tap("norm", layout="NLC", prefix_tokens=1)
            >>> tap.read(tokens, image_size=(224, 224)).shape
            torch.Size([2, 192, 14, 14])
        """
        if self.layout == "NHWC":
            return tensor.permute(0, 3, 1, 2)
        if self.layout == "NLC":
            tokens = tensor[:, self.prefix_tokens :].transpose(1, 2)
            grid = token_grid(tokens.shape[2], image_size) or (tokens.shape[2], 1)
            return tokens.reshape(*tokens.shape[:2], *grid)
        return tensor if tensor.dim() == 4 else tensor[:, :, None, None]

    def with_layout(self, tensor: Tensor, image_size: ImageSize) -> "Tap":
        """Returns the tap with the layout of a captured tensor, unless it has one already.

        Args:
            tensor: What the tap captured.
            image_size: (height, width) of the images in pixels.

        Raises:
            TapError: If the tensor cannot be features of a batch of images.

        Example:
            >>> import torch
            >>> print(Tap("norm").with_layout(torch.zeros(2, 197, 192), (224, 224)))
            norm:output:NLC+1
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
            error_as_nchw = aspect_error((second, third), image_size)
            error_as_nhwc = aspect_error((first, second), image_size)
            # An error of up to one row may come from rounding. On a tie the layout is NCHW: a
            # map may have as many columns as channels.
            is_nhwc = error_as_nchw > 1 and error_as_nhwc < error_as_nchw
            return replace(self, layout="NHWC" if is_nhwc else "NCHW")
        if tensor.dim() == 2:
            return replace(self, layout="NCHW")
        length = tensor.shape[1]
        counts = range(min(length, _MAX_PREFIX_TOKENS + 1))
        fitting = (count for count in counts if token_grid(length - count, image_size))
        return replace(self, layout="NLC", prefix_tokens=next(fitting, 0))


def token_grid(length: int, image_size: ImageSize) -> ImageSize | None:
    """Returns the grid that a number of tokens fills in the image's proportions.

    Args:
        length: Number of tokens, at least 0.
        image_size: (height, width) of the images in pixels.

    Returns:
        (height, width) of the grid, or `None` if the tokens fill none.

    Example:
        >>> token_grid(196, (224, 224)), token_grid(32, (64, 128)), token_grid(197, (224, 224))
        ((14, 14), (4, 8), None)
    """
    height = round(math.sqrt(length * image_size[0] / image_size[1]))
    width = round(math.sqrt(length * image_size[1] / image_size[0]))
    return (height, width) if length and height * width == length else None


def aspect_error(grid: ImageSize, image_size: ImageSize) -> float:
    """Returns how many rows a grid has too many or too few for the image's proportions.

    Example:
        >>> aspect_error((7, 7), (224, 224)), aspect_error((7, 4), (224, 224))
        (0.0, 3.0)
    """
    return abs(grid[0] - grid[1] * image_size[0] / image_size[1])


_LIBRARIES = ("timm.layers.activations", "transformers.activations")


def is_activation(module: nn.Module) -> bool:
    """Tells whether a module is an activation function, of torch, timm or transformers.

    Example:
        >>> is_activation(nn.GELU()), is_activation(nn.Softmax(1)), is_activation(nn.Linear(2, 2))
        (True, False, False)
    """
    # torch keeps attention and softmax beside its activations. timm and transformers are optional,
    # so their classes are known by the name of their module alone.
    if isinstance(module, (nn.MultiheadAttention, nn.Softmax, nn.LogSoftmax)):
        return False
    home = type(module).__module__
    return home == "torch.nn.modules.activation" or home.startswith(_LIBRARIES)


def find_module(network: nn.Module, path: str) -> nn.Module:
    """Returns the module at a path.

    Raises:
        TapError: If the network has none there. The message names the nearest existing paths.

    Example:
        >>> find_module(nn.Sequential(nn.ReLU()), "0")
        ReLU()
    """
    modules: dict[str, nn.Module] = dict(network.named_modules())
    if path in modules:
        return modules[path]
    near = difflib.get_close_matches(path, [name for name in modules if name], n=3, cutoff=0.3)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    raise TapError(f"{type(network).__name__} has no module '{path}'{hint}")

"""Frames: what the taps of a network read in one forward, and the hooks that put it there."""

import threading
from typing import Any

import torch
from torch import Tensor, nn

from mgd.inside.inplace import times_written

Frame = dict[int, Any]
"""What each tap read in one forward, by the tap's number: a tensor, if the tap is well placed."""


class ReadingHook:
    """Puts one tap's tensor into the frame of the forward that runs in this thread.

    Outside such a forward it does nothing, so the user's own calls hold no memory. A copy of the
    network, deep or pickled, gets a hook that never does anything.
    """

    def __init__(self, frames: dict[int, Frame] | None = None, number: int = 0):
        self.frames = frames if frames is not None else {}
        self.number = number

    def __reduce__(self) -> tuple[type["ReadingHook"], tuple[()]]:
        return ReadingHook, ()

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any = None) -> None:
        """Reads the output of a module, or its first input where the hook runs before it."""
        frame = self.frames.get(frame_key())
        if frame is not None:
            first_argument = args[0] if args else None
            frame[self.number] = first_argument if output is None else output


class EndHook(ReadingHook):
    """Knows when the module that all taps lie in has returned, behind which they read nothing."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any = None) -> None:
        """Ends a forward whose output nobody needs, or counts."""
        frame = self.frames.get(frame_key())
        if isinstance(frame, FeaturesFrame):
            raise HasReadError
        if isinstance(frame, CountingFrame):
            frame.ends += 1


class HasReadError(Exception):
    """Ends a forward of which only the features are needed."""


class FeaturesFrame(Frame):
    """A frame of a forward whose output nobody needs."""


class CountingFrame(Frame):
    """A frame that notes how often each tensor had been written to when its tap read it.

    It counts how often the module that all taps lie in has returned, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.writes: dict[int, int] = {}
        self.ends = 0

    def __setitem__(self, number: int, tensor: Any) -> None:
        super().__setitem__(number, tensor)
        self.writes[number] = times_written(tensor) if isinstance(tensor, Tensor) else 0


def frame_key() -> int:
    """Returns which forward runs here, as a key of its frame."""
    # DataParallel runs replicas, which share their hooks, in threads of one process. A compiled
    # forward has one thread, and its tracer cannot ask for it.
    return 0 if torch.compiler.is_compiling() else threading.get_ident()

"""A tapped model runs a network and collects what its taps read."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mgd.errors import TapError
from mgd.inside.canvas import Images, canvas_of, find_transform
from mgd.inside.frames import (
    CountingFrame,
    EndHook,
    FeaturesFrame,
    Frame,
    HasReadError,
    ReadingHook,
    frame_key,
)
from mgd.inside.inplace import OutOfPlaceModules, in_place_modules, times_written
from mgd.inside.modes import Buffers
from mgd.inside.outputs import have_same_values
from mgd.inside.tap import Tap, find_module


class TappedModel(nn.Module):
    """Runs a network and returns what its taps read, together with what the network returns.

    The network stays the user's: the same object, with the same state-dict keys and outputs. It
    carries one hook per tap, which does nothing in the user's own calls. `close()` removes them.

    Args:
        network: Any module.
        taps: Places inside it.

    Raises:
        TapError: If the network has no module at the path of a tap.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mgd.inside import Tap, TappedModel
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten())
        >>> tapped = TappedModel(network, [Tap.parse(network, "1")])
        >>> (features,), output = tapped(torch.zeros(2, 3, 4, 4))
        >>> features.shape, output.shape
        (torch.Size([2, 8, 4, 4]), torch.Size([2, 128]))
        >>> tapped.close()
    """

    def __init__(self, network: nn.Module, taps: Sequence[Tap]):
        super().__init__()
        self.network = network
        self.taps = tuple(taps)
        self._resizes = find_transform(network) is not None
        self._frames: dict[int, Frame] = {}
        self._out_of_place = OutOfPlaceModules()
        self._handles: list[RemovableHandle] = []
        for number, tap in enumerate(self.taps):
            module = find_module(network, tap.path)
            hook = ReadingHook(self._frames, number)
            install = (
                module.register_forward_pre_hook
                if tap.side == "input"
                else module.register_forward_hook
            )
            self._handles.append(install(hook))
        self._ends_early = False
        around = _around(tap.path for tap in self.taps)
        if self._resizes and around:
            module = find_module(network, around)
            self._handles.append(module.register_forward_hook(EndHook(self._frames)))

    def __reduce__(self) -> tuple[type["TappedModel"], tuple[Any, ...], dict[str, Any]]:
        # A copy installs hooks of its own in its own copy of the network, and knows as well which
        # modules were in-place.
        state = {"_out_of_place": self._out_of_place, "_ends_early": self._ends_early}
        return TappedModel, (self.network, self.taps), state

    def forward(self, images: Images, *more: Any) -> tuple[tuple[Tensor, ...], Any]:
        """Runs the network once.

        Args:
            images: As the network takes them, (B, C, H, W) or a list of (C, H, W).
            *more: What it is called with besides.

        Returns:
            The features of each tap, (B, C, H, W) each, and the network's own output.

        Raises:
            TapError: If a tap does not fire or reads no tensor.
        """
        frame: Frame = {}
        output = self._run(frame, images, *more)
        return self.features(images, frame), output

    def read(self, images: Images) -> tuple[tuple[Tensor, ...], Any]:
        """Runs the network as far as the features need it.

        A detector is run only as far as the module that all taps lie in, such as its backbone: the
        heads behind it, and the sorting of their boxes, take longer than the backbone itself. That
        is so after `check`, where that module was called once.

        Args:
            images: As the network takes them.

        Returns:
            The features of each tap, (B, C, H, W) each, and the network's own output; `None` where
            it did not come to one.

        Raises:
            TapError: If a tap does not fire or reads no tensor.
        """
        frame, output = FeaturesFrame() if self._ends_early else Frame(), None
        with suppress(HasReadError):
            output = self._run(frame, images)
        return self.features(images, frame), output

    def features(self, images: Images, frame: Frame) -> tuple[Tensor, ...]:
        """Returns the features of each tap, (B, C, H, W) each, from what the taps read.

        Args:
            images: That the network was called with.
            frame: From `stop_reading`.

        Raises:
            TapError: If a tap did not fire or read no tensor.
        """
        if isinstance(images, Tensor) and not self._resizes:
            size = (images.shape[-2], images.shape[-1])
        else:
            size = canvas_of(self.network, images).size
        return tuple(
            tap.read(_captured(frame, number, tap), size) for number, tap in enumerate(self.taps)
        )

    def start_reading(self) -> bool:
        """Has the taps read a call of the network that is not made by this object.

        Returns:
            Whether reading started; it did not in a forward of this object, which reads already.
        """
        frame: Frame = {}
        return self._frames.setdefault(frame_key(), frame) is frame

    def stop_reading(self) -> Frame:
        """Returns what the taps have read since `start_reading`."""
        return self._frames.pop(frame_key())

    def _run(self, frame: Frame, *given: Any) -> Any:
        key = frame_key()
        self._frames[key] = frame
        try:
            return self.network(*given)
        finally:
            del self._frames[key]

    @torch.no_grad()
    def check(self, images: Images) -> Any:
        """Runs one forward that finds taps whose tensor is overwritten after it was read.

        If an in-place activation module overwrites it, that module is made out-of-place until
        `close()`.

        Args:
            images: As the network takes them.

        Returns:
            The network's own output.

        Raises:
            TapError: If something other than such a module overwrites a tap, if the network
                computes something else without the overwriting, or if a tap does not fire.
        """
        frame = CountingFrame()

        def spare_tapped_input(module: nn.Module, args: tuple[Any, ...]) -> None:
            tapped = {_storage(tensor) for tensor in frame.values()}
            if args and _storage(args[0]) in tapped:
                self._out_of_place.add(module)

        handles = [
            module.register_forward_pre_hook(spare_tapped_input)
            for module in in_place_modules(self.network)
        ]
        given = Buffers(self.network)
        try:
            output = self._run(frame, images)
        finally:
            for handle in handles:
                handle.remove()
            given.restore()
        self._ends_early = frame.ends == 1
        if self._out_of_place:
            self._check_output(images, output)
            given.restore()
        for number, tap in enumerate(self.taps):
            if times_written(_captured(frame, number, tap)) != frame.writes[number]:
                raise TapError(
                    f"tap '{tap}' is overwritten in place after it was read, as `x += y` or "
                    "`F.relu(x, inplace=True)` do; tap the input of the activation behind it, "
                    "or the output of the block around it"
                )
        return output

    def _check_output(self, images: Images, output: Any) -> None:
        """Compares with the output of the network as given, which overwrites its tensors."""
        with self._out_of_place.in_place_again():
            original = self.network(images)
        if not have_same_values(original, output):
            taps = ", ".join(map(str, self.taps))
            raise TapError(
                f"{type(self.network).__name__} computes something else once the in-place "
                f"activations behind the taps ({taps}) no longer overwrite what the taps read: "
                "another module reads the overwritten tensor, too; tap other places, or set "
                "inplace=False in the network if that is what it should compute"
            )

    def close(self) -> None:
        """Removes every hook and makes the changed activation modules in-place again."""
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._out_of_place.restore()


def _around(paths: Iterable[str]) -> str:
    """Returns the path of the innermost module that all of them lie in; empty for the network."""
    parents = [path.split(".")[:-1] for path in paths]
    shared = takewhile(lambda names: len(set(names)) == 1, zip(*parents, strict=False))
    return ".".join(names[0] for names in shared)


def _storage(value: Any) -> int | None:
    """Identifies the memory of a tensor; views of one tensor share it."""
    return value.untyped_storage().data_ptr() if isinstance(value, Tensor) else None


def _captured(frame: Frame, number: int, tap: Tap) -> Tensor:
    if number not in frame:
        raise TapError(
            f"tap '{tap}' did not fire: the network's forward does not call that module; "
            "choose one that it calls"
        )
    tensor = frame[number]
    if not isinstance(tensor, Tensor):
        raise TapError(
            f"tap '{tap}' reads a {type(tensor).__name__}, not a tensor; "
            "tap a module inside that returns one"
        )
    return tensor

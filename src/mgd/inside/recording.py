"""Recording: what the taps read in the calls that a user's own loop makes of a network."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mgd.errors import InputError
from mgd.inside.batches import IMAGE_KEYS, described, find_images
from mgd.inside.canvas import Images
from mgd.inside.tapped import TappedModel


class Call(NamedTuple):
    """A call of a network: what went in, what its taps read, and what came out."""

    images: Images
    features: tuple[Tensor, ...]
    output: Any


class CallRecorder:
    """Keeps the last training call of a tapped network: one that computes gradients.

    A pair of hooks around the network does it. Calls of a copy are not recorded.

    Args:
        tapped: The network with its taps.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mgd.inside import CallRecorder, Tap, TappedModel
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten())
        >>> recorder = CallRecorder(TappedModel(network, [Tap.parse(network, "1")]))
        >>> output = network(torch.zeros(2, 3, 4, 4))
        >>> call = recorder.take()
        >>> call.features[0].shape, call.output is output, recorder.take()
        (torch.Size([2, 8, 4, 4]), True, None)
        >>> recorder.close()
    """

    def __init__(self, tapped: TappedModel):
        self.tapped = tapped
        self._images: Images | None = None
        self._last: Call | None = None
        hook = _Hook(self)
        self._handles = [
            tapped.network.register_forward_pre_hook(hook, with_kwargs=True),
            # Also after a call that ends in an error, so that the next one is read anew.
            tapped.network.register_forward_hook(hook, with_kwargs=True, always_call=True),
        ]

    def take(self) -> Call | None:
        """Returns the last call, once; `None` if there was none since."""
        last, self._last = self._last, None
        return last

    def begin(self, network: nn.Module, words: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Starts reading, if the call that begins is one to be recorded.

        Args:
            network: The module that is called.
            words, named: What it is called with.

        Raises:
            InputError: If it is a replica of DataParallel, or gets no images.
        """
        if not torch.is_grad_enabled():
            return
        if network is not self.tapped.network:
            raise InputError(
                "DataParallel runs copies of the student, whose calls cannot be followed; start "
                "one process for each device, as torchrun does"
            )
        images = find_images(words[0] if words else named)
        if images is None:
            raise InputError(
                f"the student {type(network).__name__} is called with {described(words or named)}; "
                f"needed are images as the first argument, or as {', '.join(IMAGE_KEYS)}"
            )
        if self.tapped.start_reading():
            self._images = images

    def end(self, output: Any) -> None:
        """Ends what `begin` has begun.

        Args:
            output: What the network returned; `None` if it did not get that far.
        """
        images, self._images = self._images, None
        if images is None:
            return
        frame = self.tapped.stop_reading()
        if output is not None:
            self._last = Call(images, self.tapped.features(images, frame), output)

    def close(self) -> None:
        """Removes the hooks, and forgets the last call."""
        self._last = None
        for handle in self._handles:
            handle.remove()


class _Hook:
    """Tells a recorder that a call begins and ends; a copy of it, deep or pickled, tells nobody."""

    def __init__(self, recorder: CallRecorder | None = None):
        self.recorder = recorder

    def __reduce__(self) -> tuple[type["_Hook"], tuple[()]]:
        return _Hook, ()

    def __call__(
        self, network: nn.Module, words: tuple[Any, ...], named: dict[str, Any], *output: Any
    ) -> None:
        if self.recorder is None:
            return
        if output:
            self.recorder.end(*output)
        else:
            self.recorder.begin(network, words, named)

"""FrozenTeacher: a network that is only asked, never trained, and given back as it was."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mgd.errors import InputError
from mgd.inside import AsGiven, Images, Tap, TappedModel, batch_norm_channels
from mgd.tensors.margin import margin_from_norm


class FrozenTeacher(nn.Module):
    """Runs a teacher without gradients, in eval mode whatever `train()` says.

    Its weights are in no `state_dict()`: they are the user's file, and larger than all the rest.

    Args:
        network: The teacher; its parameters need no gradients until `close()`.
        taps: Places to read.
        preprocess: Gives the network its view of the images.
        precision: Type of its arithmetic; `None` is that of the autocast around the forward.
    """

    def __init__(
        self,
        network: nn.Module,
        taps: Sequence[Tap],
        preprocess: nn.Module,
        precision: torch.dtype | None = None,
    ):
        super().__init__()
        self.precision = precision
        self._given = AsGiven(network)
        self._handles: list[RemovableHandle] = []
        self.tapped, self.preprocess = TappedModel(network, taps), preprocess
        self.register_state_dict_post_hook(_forget_weights)
        network.requires_grad_(False)
        self.eval()

    @property
    def network(self) -> nn.Module:
        """The teacher, the same object that was given."""
        return self.tapped.network

    @torch.no_grad()
    def forward(self, images: Images) -> tuple[tuple[Tensor, ...], Any]:
        """Returns the taps' features, (B, C, H, W) each, and the network's own output.

        Args:
            images: As `Distiller.forward` takes them.
        """
        images = self.preprocess(images)
        if self.precision is None:
            return self.tapped(images)  # type: ignore[no-any-return]  # the call of a module
        enabled = self.precision != torch.float32
        with torch.autocast(images[0].device.type, self.precision if enabled else None, enabled):
            return self.tapped(images)  # type: ignore[no-any-return]  # the call of a module

    def margin(self, norm: str) -> Float[Tensor, " teacher"]:
        """Returns the margins (T,) behind one of the network's BatchNorms.

        Raises:
            InputError: If the module at that path is no BatchNorm.
        """
        module = self.network.get_submodule(norm)
        if not batch_norm_channels(module):
            raise InputError(
                f"'{norm}' is a {type(module).__name__}; the margin needs a BatchNorm, or none to "
                "measure it from features"
            )
        return margin_from_norm(module)

    def when_loaded(self, norm: str, call: Callable[[], None]) -> None:
        """Calls a method whenever weights are loaded into one of the network's BatchNorms.

        Args:
            norm: Its path.
            call: A bound method, which is not kept alive.
        """
        module = self.network.get_submodule(norm)
        self._handles.append(module.register_load_state_dict_post_hook(_Call(call)))

    def train(self, mode: bool = True) -> "FrozenTeacher":
        """Stays in eval mode."""
        super().train(False)
        return self

    def close(self) -> None:
        """Gives the network back: no hooks, and modes and gradients as they were."""
        self.tapped.close()
        for handle in self._handles:
            handle.remove()
        self._given.restore()


class _Call:
    """Calls a method of an object that may be gone; a copy of the teacher gets one that does not.

    The hooks are copied with the network, deep or pickled, and would otherwise reach back.
    """

    def __init__(self, method: Callable[[], None] | None = None):
        self.method = weakref.WeakMethod(method) if method is not None else lambda: None

    def __reduce__(self) -> tuple[type["_Call"], tuple[()]]:
        return _Call, ()

    def __call__(self, module: nn.Module, incompatible: Any) -> None:
        method = self.method()
        if method is not None:
            method()


def _forget_weights(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for key in [key for key in state if key.startswith(prefix)]:
        del state[key]

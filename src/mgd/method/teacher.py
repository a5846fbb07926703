"""FrozenTeacher: a network that is only asked, never trained, and given back as it was."""

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm  # no public name for the base of 1d to 3d
from torch.utils.hooks import RemovableHandle
from torchvision.ops import FrozenBatchNorm2d

from mgd import ranks
from mgd.errors import InputError
from mgd.inside import AsGiven, Images, Tap, TappedModel, batch_norm_channels
from mgd.tensors.margin import margin_from_norm

Item = TypeVar("Item")


class FrozenTeacher(nn.Module):
    """Runs a teacher without gradients, in eval mode whatever `train()` says.

    Its weights are in no `state_dict()`: they are the user's file, and larger than all the rest.

    Args:
        network: The teacher; its parameters need no gradients until `close()`.
        taps: Places to read.
        preprocess: Gives the network its view of the images.
        spare: A batch of one image, as `forward` takes it; see `in_step`.
        precision: Type of its arithmetic; `None` is that of the autocast around the forward.
    """

    _spare: Tensor

    def __init__(
        self,
        network: nn.Module,
        taps: Sequence[Tap],
        preprocess: nn.Module,
        spare: Images,
        precision: torch.dtype | None = None,
    ):
        super().__init__()
        self.precision = precision
        self._given = AsGiven(network)
        self._handles: list[RemovableHandle] = []
        self.tapped, self.preprocess = TappedModel(network, taps), preprocess
        self._takes_lists = not isinstance(spare, Tensor)
        self.register_buffer("_spare", spare[0].clone(), persistent=False)
        self.register_state_dict_post_hook(_forget_weights)
        network.requires_grad_(False)
        self.eval()

    @property
    def network(self) -> nn.Module:
        """The teacher, the same object that was given."""
        return self.tapped.network

    @property
    def spare(self) -> Images:
        """A batch of one image, as `forward` takes it, for a forward whose result is not used."""
        return [self._spare] if self._takes_lists else self._spare[None]

    @torch.no_grad()
    def forward(self, images: Images, whole: bool = True) -> tuple[tuple[Tensor, ...], Any]:
        """Returns the taps' features, (B, C, H, W) each, and the network's own output.

        Args:
            images: As `Distiller.forward` takes them.
            whole: Whether the output is needed; else see `TappedModel.read`.
        """
        images = self.preprocess(images)
        if self.precision is None:
            return self._ask(images, whole)
        enabled = self.precision != torch.float32
        with torch.autocast(images[0].device.type, self.precision if enabled else None, enabled):
            return self._ask(images, whole)

    def _ask(self, images: Images, whole: bool) -> tuple[tuple[Tensor, ...], Any]:
        # A sharded network gives its gathered weights back where its forward ends.
        if whole or ranks.is_sharded(self.network):
            return self.tapped(images)  # type: ignore[no-any-return]  # the call of a module
        return self.tapped.read(images)

    def in_step(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yields items, such as batches of images, of which each needs one forward.

        A network that is sharded over ranks needs all of them in each forward. So a rank that is
        through with its items runs the network on a spare image until the others are through.

        Args:
            items: Of this rank.
        """
        if ranks.is_sharded(self.network):
            return ranks.keep_step(items, lambda: self(self.spare))
        return iter(items)

    def margin(self, norm: str) -> Float[Tensor, " teacher"]:
        """Returns the margins (T,) behind one of the network's BatchNorms.

        Where the network is sharded over ranks, all of them must ask at once.

        Raises:
            InputError: If the module at that path is no BatchNorm.
        """
        module = self.network.get_submodule(norm)
        if not batch_norm_channels(module):
            raise InputError(
                f"'{norm}' is a {type(module).__name__}; the margin needs a BatchNorm, or none to "
                "measure it from features"
            )
        return margin_from_norm(_whole(module))

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


def _whole(norm: _BatchNorm | FrozenBatchNorm2d) -> _BatchNorm | FrozenBatchNorm2d:
    """Returns a BatchNorm, or one with its whole parameters where the ranks share them out."""
    if not ranks.is_sharded(norm):  # a frozen one has buffers, which each rank has whole
        return norm
    twin = nn.BatchNorm2d(norm.num_features)
    twin.weight, twin.bias = (nn.Parameter(ranks.whole(each)) for each in (norm.weight, norm.bias))
    return twin


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

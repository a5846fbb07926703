"""Hidden parameters: optimizer, DDP and device moves find them in a network; checkpoints do not."""

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from mgd.errors import InputError


class HiddenParameters:
    """Lends parameters to a network, until `close()`.

    Whatever asks the network for its parameters gets these as well: optimizers, device moves, DDP,
    clipping of gradients. `state_dict()` leaves them out, and `load_state_dict(strict=True)` does
    not miss them, so the network's checkpoint is that of the network alone.

    Args:
        network: Any module.
        parameters: Under names that the network does not use, without dots.

    Raises:
        InputError: If the network uses one of the names, as one that is lent parameters already.

    Example:
        >>> from mgd.integrations.hidden import HiddenParameters
        >>> network, norm = nn.Linear(2, 2), nn.BatchNorm2d(3)
        >>> hidden = HiddenParameters(network, {"norm_weight": norm.weight})
        >>> [name for name, _ in network.named_parameters()], list(network.state_dict())
        (['weight', 'bias', 'norm_weight'], ['weight', 'bias'])
        >>> network.load_state_dict(network.state_dict())
        <All keys matched successfully>
        >>> hidden.close()
        >>> [name for name, _ in network.named_parameters()]
        ['weight', 'bias']
    """

    def __init__(self, network: nn.Module, parameters: Mapping[str, nn.Parameter]):
        self._network, self._names = network, tuple(parameters)
        if taken := [name for name in self._names if hasattr(network, name)]:
            raise InputError(
                f"the student has '{taken[0]}' already: another integration guides it; close that "
                "one, or make one alone"
            )
        for name, parameter in parameters.items():
            network.register_parameter(name, parameter)
        self._handles: list[RemovableHandle] = [
            network.register_state_dict_post_hook(_LeaveOut(self._names)),
            network.register_load_state_dict_post_hook(_DoNotMiss(self._names)),
        ]

    def close(self) -> None:
        """Takes the parameters back."""
        for handle in self._handles:
            handle.remove()
        for name in self._names:
            delattr(self._network, name)
        self._names = ()


class _LeaveOut:
    """Takes entries out of a state dict; a class, so that the network can be copied and pickled."""

    def __init__(self, names: tuple[str, ...]):
        self.names = names

    def __call__(self, module: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
        for name in self.names:
            state.pop(prefix + name, None)


class _DoNotMiss:
    """Takes entries out of those that a load has missed."""

    def __init__(self, names: tuple[str, ...]):
        self.names = names

    def __call__(self, module: nn.Module, incompatible: Any) -> None:
        incompatible.missing_keys[:] = [
            key for key in incompatible.missing_keys if key.rpartition(".")[2] not in self.names
        ]

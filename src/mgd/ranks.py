"""Ranks: the processes of a distributed run, and the ways in which they agree.

This is the only module that asks `torch.distributed` for a rank. In a single process, or where
torch was built without `torch.distributed`, every function does what is right for one rank: sums
and shares change nothing, and the one process is the first.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

Value = TypeVar("Value")


def are_several() -> bool:
    """Tells whether a process group is there, so that ranks have to agree at all."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Returns this process's number in the group, from 0; 0 without a group."""
    return dist.get_rank() if are_several() else 0


def num_ranks() -> int:
    """Returns how many processes the group has; 1 without a group."""
    return dist.get_world_size() if are_several() else 1


def is_first() -> bool:
    """Tells whether this process is the one that writes and prints.

    Before the group exists, torchrun's variable `RANK` says so.
    """
    return rank() == 0 if are_several() else os.environ.get("RANK", "0") == "0"


def sum_over_ranks(tensors: Iterable[Tensor]) -> None:
    """Replaces every tensor, in place, by its sum over the ranks: one all-reduce a data type."""
    if not are_several():
        return
    for same_type in _by_type(tensors):
        packed = torch.cat([tensor.flatten() for tensor in same_type])
        dist.all_reduce(packed)
        _unpack(packed, same_type)


def sum_on_first(tensors: Iterable[Tensor]) -> None:
    """Moves the sum over the ranks to rank 0, in place; the other ranks are left with zeros.

    For sums that rank 0 saves while the others go on adding: nothing is counted twice.
    """
    tensors = list(tensors)
    sum_over_ranks(tensors)
    if rank() != 0:
        for tensor in tensors:
            tensor.zero_()


def share(tensors: Iterable[Tensor]) -> None:
    """Gives every rank, in place, the tensors of rank 0."""
    if are_several():
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def gather(tensor: Tensor) -> list[Tensor]:
    """Returns the tensors of all ranks, of one shape and type, in the order of the ranks."""
    if not are_several():
        return [tensor]
    found = [torch.empty_like(tensor) for _ in range(num_ranks())]
    dist.all_gather(found, tensor)
    return found


def gather_objects(value: Value) -> list[Value]:
    """Returns the picklable values of all ranks, in the order of the ranks."""
    if not are_several():
        return [value]
    found: list[Value | None] = [None] * num_ranks()
    dist.all_gather_object(found, value)
    return cast("list[Value]", found)


def sum_with_gradient(values: Tensor) -> Tensor:
    """Returns the sum over the ranks; its gradient is the sum of all ranks' gradients."""
    return cast("Tensor", _SumOverRanks.apply(values)) if are_several() else values


def keep_step(items: Iterable[Value], idle: Callable[[], object]) -> Iterator[Value]:
    """Yields this rank's items; then calls `idle` once for each item that another still has.

    For items that need all ranks at once, where some ranks have fewer items than others.
    """
    yours = iter(items)
    while True:
        item = list(islice(yours, 1))
        if not any(gather_objects(bool(item))):
            return
        if item:
            yield item[0]
        else:
            idle()


def shard(network: nn.Module, parts: Iterable[nn.Module], device: torch.device) -> None:
    """Leaves each rank with a share of a network's parameters, on the device.

    In a forward, which all ranks must run at once, each part's parameters are gathered for its own
    call alone, and those in no part for the whole forward. Buffers stay whole. Nothing can be
    loaded into the network any more.

    Args:
        network: With the same frozen weights on every rank; edited in place.
        parts: Modules of it, each after those inside it; see `inside.separate_parts`.
        device: Where to.
    """
    # Not where the module is imported: they need a torch built with `torch.distributed`.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.dim() == 0:  # which cannot be cut, and a forward reads a buffer as well
                delattr(module, name)
                module.register_buffer(name, parameter.detach())
            else:  # the channels-last format is no longer one piece
                parameter.data = parameter.data.contiguous()
    mesh = init_device_mesh(device.type, (num_ranks(),))
    for part in (*parts, network):
        fully_shard(part, mesh=mesh, reshard_after_forward=True)


def is_sharded(network: nn.Module) -> bool:
    """Tells whether a network's forward needs all ranks at once, since `shard` has cut it."""
    return any(map(_is_cut, network.parameters()))


def whole(tensor: Tensor) -> Tensor:
    """Returns a tensor; of one that is cut, the shares of all ranks, which must all ask at once."""
    cut: Any = tensor
    return cast("Tensor", cut.full_tensor()) if _is_cut(tensor) else tensor


def held_here(tensor: Tensor) -> Tensor:
    """Returns a tensor; of one that is cut, this rank's share."""
    cut: Any = tensor
    return cast("Tensor", cut.to_local()) if _is_cut(tensor) else tensor


def _is_cut(tensor: Tensor) -> bool:
    # A DTensor; asking for its class would import it into every run.
    return hasattr(tensor, "full_tensor")


def leave() -> None:
    """Ends this process's part in the group.

    A process that ends while gloo's threads still run may be aborted for it. In torch 2.6
    `destroy_process_group` joins these threads while it holds Python's lock, and a thread that is
    about to free the tensor of the last collective waits for that lock: a short pause lets it
    finish first.
    """
    if are_several():
        time.sleep(0.05)
        dist.destroy_process_group()


class _SumOverRanks(torch.autograd.Function):
    """An all-reduce with a gradient.

    Ours, since newer versions of torch call the public one of `torch.distributed.nn` deprecated,
    and older ones have no gradient for what takes its place.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _by_type(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    return list(groups.values())


def _unpack(packed: Tensor, tensors: list[Tensor]) -> None:
    parts = packed.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))

"""Sharding: every rank holds a share of a teacher that is too large for one device.

Torch's `fully_shard` (FSDP2) cuts the frozen teacher alone. What is trained is small, and is copied
to every rank by DDP, so that optimizer, averaged weights and checkpoints are those of any run.
Fabric's strategies for FSDP would cut what is trained, and its `FSDPStrategy` needs GPUs.
"""

import math
from itertools import chain

import torch
from torch import nn

from mgd import ranks
from mgd.errors import InputError
from mgd.inside import separate_parts
from mgd.method.teacher import FrozenTeacher


def shard_teacher(teacher: FrozenTeacher, device: torch.device) -> None:
    """Cuts a teacher over the ranks, and moves this rank's share to its device.

    Each of the teacher's parts is gathered for its own call; see `inside.separate_parts`. Taps,
    folded BatchNorms and what is computed stay the same.

    Args:
        teacher: Whole, on the CPU, and the same on all ranks.
        device: Of this rank.

    Raises:
        InputError: If the ranks have different weights.
    """
    network = teacher.network
    _check_same(network)
    parts = separate_parts(network, teacher.preprocess(teacher.spare))
    ranks.shard(network, parts, device)
    teacher.to(device)
    # The first forward makes what is used in all later ones. In the inference mode of a measurement
    # these tensors could not be written to afterwards.
    teacher(teacher.spare)


def _check_same(network: nn.Module) -> None:
    """Checks that all ranks have the weights of one network, not each a random one."""
    tensors = chain(network.parameters(), network.buffers())
    sums = [float(tensor.double().sum()) for tensor in tensors]
    mine, *others = ranks.gather_objects([repr(each) for each in sums])  # NaN equals no NaN
    if any(each != mine for each in others):
        raise InputError(
            "`parallel=fsdp` shares out one teacher, but the processes have different weights for "
            "it; give its weights with `teacher_resume`, or seed what is random in its code"
        )


def held_bytes(network: nn.Module) -> tuple[int, int]:
    """Returns the bytes of a network's weights on this rank, and of the whole; with buffers."""
    tensors = list(chain(network.parameters(), network.buffers()))
    here = sum(_bytes(ranks.held_here(tensor)) for tensor in tensors)
    return here, sum(map(_bytes, tensors))


def _bytes(tensor: torch.Tensor) -> int:
    return math.prod(tensor.shape) * tensor.element_size()

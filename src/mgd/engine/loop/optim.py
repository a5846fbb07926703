"""Optimizer and learning-rate schedule."""

import math
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase  # torch has no public name for Batch- and others
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from mgd.engine.options.config import ScheduleConfig

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)
"""Normalisation layers; `_NormBase` has BatchNorm, SyncBatchNorm and InstanceNorm below it."""


def build_optimizer(module: nn.Module, config: ScheduleConfig) -> Optimizer:
    """Builds SGD with Nesterov's momentum, or AdamW, over whatever is not frozen."""
    groups = parameter_groups(module, config)
    if config.opt == "adamw":
        return AdamW(groups, lr=config.learning_rate, weight_decay=config.wd)
    return SGD(
        groups,
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.wd,
        nesterov=config.momentum > 0,
    )


def parameter_groups(module: nn.Module, config: ScheduleConfig) -> list[dict[str, Any]]:
    """Returns the parameters that are trained, in a group for each weight decay that was given.

    As in torchvision's reference training, a bias has the weight decay of biases also in a
    normalisation layer. Where only `wd` is given there is one group.
    """
    groups: dict[str, list[nn.Parameter]] = {"wd": [], "norm": [], "bias": []}
    decays = {"wd": config.wd, "norm": config.norm_weight_decay, "bias": config.bias_weight_decay}
    known = set[nn.Parameter]()  # a tied weight is a parameter of several layers
    for layer in module.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            kinds = {"bias": name == "bias", "norm": isinstance(layer, NORMS), "wd": True}
            kind = next(k for k, fits in kinds.items() if fits and decays[k] is not None)
            if parameter.requires_grad and parameter not in known:
                groups[kind].append(parameter)
            known.add(parameter)
    return [
        {"params": parameters, "weight_decay": decays[kind]}
        for kind, parameters in groups.items()
        if parameters
    ]


def build_scheduler(optimizer: Optimizer, config: ScheduleConfig, steps_per_epoch: int) -> LambdaLR:
    """Builds the schedule of all groups, stepped after every optimizer step, from `start_epoch`."""
    factor = partial(lr_factor, config=config, steps_per_epoch=steps_per_epoch)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]  # LambdaLR asks for it where it does not start at 0
    return LambdaLR(optimizer, factor, last_epoch=config.start_epoch * steps_per_epoch - 1)


def first_lr(epoch: int, config: ScheduleConfig, steps_per_epoch: int) -> float:
    """Returns the learning rate of an epoch's first step, also for a run resumed later in it."""
    return config.learning_rate * lr_factor(epoch * steps_per_epoch, config, steps_per_epoch)


def lr_factor(step: int, config: ScheduleConfig, steps_per_epoch: int) -> float:
    """Returns what the learning rate is multiplied by at a step, counted from 0.

    A warm-up rises in a line from 0.1 to 1. Then the rate drops by `lr_drop_ratio` at the start
    of each of `lr_drop_epochs`, which count from the end of the warm-up, or falls like a cosine
    to 0 at the end of the run.
    """
    warmup_steps = config.warmup_length * steps_per_epoch
    if step < warmup_steps:
        return 0.1 + 0.9 * step / warmup_steps
    step -= warmup_steps
    if config.lr_schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * step / (config.epochs * steps_per_epoch)))
    drops = sum(step // steps_per_epoch >= epoch for epoch in config.lr_drop_epochs)
    return float(config.lr_drop_ratio**drops)

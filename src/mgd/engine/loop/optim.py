"""Optimizer and learning-rate schedule."""

import math
from functools import partial

from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from mgd.engine.options.config import ScheduleConfig


def build_optimizer(module: nn.Module, config: ScheduleConfig) -> SGD:
    """Builds SGD with Nesterov's momentum over whatever is not frozen."""
    return SGD(
        [parameter for parameter in module.parameters() if parameter.requires_grad],
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.wd,
        nesterov=config.momentum > 0,
    )


def build_scheduler(optimizer: SGD, config: ScheduleConfig, steps_per_epoch: int) -> LambdaLR:
    """Builds the schedule, stepped after every optimizer step; starts at `start_epoch`."""
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

"""Learning rates against a slow reference; which parameters are trained."""

import math

import pytest
import torch
from torch import nn

from mgd.engine.loop.optim import build_optimizer, build_scheduler, lr_factor
from mgd.engine.options.config import ScheduleConfig

STEPS = 4


def reference(config, steps_per_epoch):
    """Lists the rate of every step, epoch by epoch, as one would explain it."""
    rates = []
    warmup = config.warmup_epochs * config.warmup
    for step in range(warmup * steps_per_epoch):
        rates.append(config.learning_rate * (0.1 + 0.9 * step / (warmup * steps_per_epoch)))
    rate = config.learning_rate
    for epoch in range(config.epochs):
        if epoch in config.lr_drop_epochs:
            rate *= config.lr_drop_ratio
        for step in range(steps_per_epoch):
            if config.lr_schedule == "cosine":
                done = (epoch + step / steps_per_epoch) / config.epochs
                rate = config.learning_rate * (1 + math.cos(math.pi * done)) / 2
            rates.append(rate)
    return rates


SCHEDULES = [
    ScheduleConfig(epochs=6, lr_drop_epochs=(2, 5)),
    ScheduleConfig(epochs=6, lr_drop_epochs=(2, 5), lr_drop_ratio=0.5, warmup=1, warmup_epochs=3),
    ScheduleConfig(epochs=3, lr_drop_epochs=(), warmup=0, warmup_epochs=2),
    ScheduleConfig(epochs=5, lr_schedule="cosine"),
    ScheduleConfig(epochs=5, lr_schedule="cosine", warmup=1, warmup_epochs=2, learning_rate=0.4),
]


@pytest.mark.parametrize("config", SCHEDULES)
def test_every_step_has_its_rate(config):
    layer = nn.Linear(2, 2)
    optimizer = build_optimizer(layer, config)
    scheduler = build_scheduler(optimizer, config, STEPS)
    found = []
    for _ in range(config.total_epochs * STEPS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert found == pytest.approx(reference(config, STEPS), rel=1e-12)


@pytest.mark.parametrize("config", SCHEDULES)
def test_a_later_first_epoch_has_the_rates_of_that_epoch(config):
    later = ScheduleConfig(**{**vars(config), "start_epoch": 2})
    optimizer = build_optimizer(nn.Linear(2, 2), later)
    scheduler = build_scheduler(optimizer, later, STEPS)
    found = []
    for _ in range((config.total_epochs - 2) * STEPS):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert found == pytest.approx(reference(config, STEPS)[2 * STEPS :], rel=1e-12)


def test_the_published_schedule():
    """Epochs 1-30 at 0.1, from the 31st a tenth, from the 61st a hundredth: counted from 0."""
    config = ScheduleConfig(warmup=1, warmup_epochs=10, lr_drop_epochs=(31, 61, 81))
    assert lr_factor(0, config, 100) == 0.1
    assert lr_factor(1000, config, 100) == 1
    assert lr_factor(4099, config, 100) == 1
    assert lr_factor(4100, config, 100) == pytest.approx(0.1)
    assert lr_factor(7100, config, 100) == pytest.approx(0.01)
    assert lr_factor(9100, config, 100) == pytest.approx(0.001)


def test_frozen_parameters_are_not_trained():
    layer = nn.Linear(2, 2)
    layer.bias.requires_grad_(False)
    optimizer = build_optimizer(layer, ScheduleConfig())
    assert [len(group["params"]) for group in optimizer.param_groups] == [1]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_with_nesterov_follows_its_formula(momentum):
    config = ScheduleConfig(learning_rate=0.5, momentum=momentum, wd=0.01)
    layer = nn.Linear(1, 1, bias=False)
    optimizer = build_optimizer(layer, config)
    weight, velocity = layer.weight.item(), 0.0
    for _ in range(3):
        layer.weight.grad = torch.full((1, 1), 2.0)
        optimizer.step()
        gradient = 2.0 + 0.01 * weight
        velocity = momentum * velocity + gradient
        weight -= 0.5 * (gradient + momentum * velocity)
        assert layer.weight.item() == pytest.approx(weight, rel=1e-5)

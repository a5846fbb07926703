"""Learning rates against a slow reference; which parameters are trained."""

import math

import pytest
import torch
from torch import nn

import mgd
from mgd.engine.loop.optim import build_optimizer, build_scheduler, lr_factor, parameter_groups
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


def test_adamw_follows_its_formula():
    """Loshchilov and Hutter, ICLR 2019, algorithm 2, with the usual betas."""
    config = ScheduleConfig(opt="adamw", learning_rate=0.01, wd=0.1)
    layer = nn.Linear(1, 1, bias=False)
    optimizer = build_optimizer(layer, config)
    weight, first, second = layer.weight.item(), 0.0, 0.0
    for step, gradient in enumerate((2.0, -1.0, 0.5), start=1):
        layer.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        scaled = (first / (1 - 0.9**step)) / (math.sqrt(second / (1 - 0.999**step)) + 1e-8)
        weight -= 0.01 * (scaled + 0.1 * weight)
        assert layer.weight.item() == pytest.approx(weight, rel=1e-5)


class Layers(nn.Module):
    """A layer of each kind, one weight tied, one frozen."""

    def __init__(self):
        super().__init__()
        self.conv, self.batch = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.layer, self.group = nn.LayerNorm(4), nn.GroupNorm(2, 4)
        self.head, self.twin = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.twin.weight = self.head.weight
        self.frozen = nn.Linear(4, 4)
        self.frozen.requires_grad_(False)


def decays_of(module, **options):
    """Returns the weight decay of each parameter by name."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    groups = parameter_groups(module, ScheduleConfig(wd=0.5, **options))
    pairs = [(names[p], group["weight_decay"]) for group in groups for p in group["params"]]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


NORMS = {f"{name}.{kind}" for name in ("batch", "layer", "group") for kind in ("weight", "bias")}
ALL = NORMS | {"conv.weight", "conv.bias", "head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("options", "free"),
    [
        ({}, set()),
        ({"norm_weight_decay": 0.0}, NORMS),
        ({"bias_weight_decay": 0.0}, {name for name in ALL if name.endswith("bias")}),
        (
            {"norm_weight_decay": 0.0, "bias_weight_decay": 0.0},
            NORMS | {"conv.bias", "head.bias"},
        ),
    ],
)
def test_norms_and_biases_have_the_decay_that_is_given_for_them(options, free):
    assert decays_of(Layers(), **options) == {name: 0.0 if name in free else 0.5 for name in ALL}


def test_a_bias_in_a_norm_is_a_bias():
    found = decays_of(Layers(), norm_weight_decay=0.1, bias_weight_decay=0.2)
    assert (found["batch.weight"], found["batch.bias"], found["conv.bias"]) == (0.1, 0.2, 0.2)


def test_without_them_there_is_one_group_in_the_order_of_the_network():
    module = Layers()
    (group,) = parameter_groups(module, ScheduleConfig())
    expected = [parameter for parameter in module.parameters() if parameter.requires_grad]
    assert [id(p) for p in group["params"]] == [id(p) for p in expected]


def test_the_norms_of_the_points_are_norms():
    teacher, student = (mgd.create_model(f"cifar_resnet8_x0_{n}", 10) for n in ("5", "25"))
    pairs = [("layer2.0.relu", "layer2.0.relu")]
    distiller = mgd.Distiller(teacher, student, torch.randn(2, 3, 8, 8), points=pairs)
    groups = parameter_groups(distiller.learner, ScheduleConfig(norm_weight_decay=0.0))
    free = {id(p) for group in groups if not group["weight_decay"] for p in group["params"]}
    assert {id(p) for p in distiller.points.parameters()} <= free


@pytest.mark.parametrize("opt", ["sgd", "adamw"])
def test_every_group_has_the_rates_of_the_schedule(opt):
    config = ScheduleConfig(
        opt=opt, epochs=2, lr_schedule="cosine", norm_weight_decay=0.0, bias_weight_decay=0.0
    )
    optimizer = build_optimizer(Layers(), config)
    scheduler = build_scheduler(optimizer, config, STEPS)
    rates = reference(config, STEPS)
    for rate in rates:
        assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([rate] * 3, rel=1e-12)
        optimizer.step()
        scheduler.step()

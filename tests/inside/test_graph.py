"""Autograd's graph: operations are told apart by what PyTorch calls them today."""

import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mgd.inside import graph

PREDICATES = {
    name: getattr(graph, name)
    for name in (
        *("is_activation_function", "is_sum", "is_residual_sum", "is_join", "is_slice"),
        *("is_pooling", "is_norm", "is_batch_norm", "is_reshaping"),
    )
}
SUM, RESIDUAL, NORM = {"is_sum"}, {"is_sum", "is_residual_sum"}, {"is_norm"}
BATCH_NORM = NORM | {"is_batch_norm"}
# An operation on maps (1, 4, 4, 4), and the predicates that hold for it.
OPERATIONS = {
    **{
        function.__name__: (function, {"is_activation_function"})
        for function in (
            *(F.relu, F.relu6, F.leaky_relu, F.elu, F.celu, F.silu, F.gelu, F.mish),
            *(F.hardswish, F.hardtanh, F.softplus),
        )
    },
    "prelu": (lambda x: F.prelu(x, torch.ones(1)), {"is_activation_function"}),
    "clamp": (lambda x: x.clamp(0, 6), {"is_activation_function"}),
    "sigmoid": (F.sigmoid, set()),
    "residual": (lambda x: x + x.exp(), RESIDUAL),
    "residual in place": (lambda x: x.exp().add_(x.sin()), RESIDUAL),
    "scaled residual": (lambda x: torch.addcmul(x, x.exp(), torch.ones(1)), RESIDUAL),
    "plus one": (lambda x: x + 1, SUM),
    "product": (lambda x: x * x, set()),
    "linear": (lambda x: nn.Linear(4, 4)(x[0, 0].detach()), set()),
    "convolution": (lambda x: nn.Conv2d(4, 4, 1)(x), set()),
    "concatenation": (lambda x: torch.cat([x, x]), {"is_join"}),
    "slice": (lambda x: x[:, 1:], {"is_slice"}),
    "split": (lambda x: x.split(2, 1)[0], {"is_slice"}),
    "chunk": (lambda x: x.chunk(2, 1)[0], {"is_slice"}),
    "max pooling": (lambda x: F.max_pool2d(x, 2), {"is_pooling"}),
    "average pooling": (lambda x: F.avg_pool2d(x, 2), {"is_pooling"}),
    "adaptive pooling": (lambda x: F.adaptive_avg_pool2d(x, 2), {"is_pooling"}),
    "batch norm": (nn.BatchNorm2d(4), BATCH_NORM),
    "evaluated batch norm": (nn.BatchNorm2d(4).eval(), BATCH_NORM),
    "layer norm": (nn.LayerNorm(4), NORM),
    "group norm": (nn.GroupNorm(2, 4), NORM),
    "view": (lambda x: x.view(4, 16), {"is_reshaping"}),
    "flatten": (lambda x: x.flatten(1), {"is_reshaping"}),
    "permute": (lambda x: x.permute(0, 2, 3, 1), {"is_reshaping"}),
    "transpose": (lambda x: x.transpose(1, 2), {"is_reshaping"}),
    "contiguous": (lambda x: x.transpose(1, 2).contiguous(), {"is_reshaping"}),
    "squeeze": (lambda x: x.squeeze(0), {"is_reshaping"}),
    "reshape with a copy": (lambda x: x.transpose(1, 2).reshape(4, 16), {"is_reshaping"}),
}


def maps():
    return torch.rand(1, 4, 4, 4, requires_grad=True)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_what_it_is_and_nothing_else(name):
    operation, expected = OPERATIONS[name]
    node = operation(maps()).grad_fn
    assert {name for name, holds in PREDICATES.items() if holds(node)} == expected


def test_going_back_stops_at_the_first_operation_that_is_not_skipped():
    activated = maps().relu()
    node = activated.view(4, 16).transpose(0, 1).grad_fn
    assert graph.first_before(node, graph.is_reshaping) is activated.grad_fn
    assert graph.first_before(node, lambda node: True) is None
    assert graph.first_before(None, graph.is_reshaping) is None


def test_consumers_are_known_for_every_operation_behind_the_outputs():
    shared = maps().exp()
    left, right = shared.relu(), shared.sin()
    consumers = graph.consumers_of([(left + right).grad_fn, right.grad_fn])
    assert set(consumers[shared.grad_fn]) == {left.grad_fn, right.grad_fn}
    assert len(consumers[shared.grad_fn]) == 2


def normalised(maps, num_before):
    for _ in range(num_before):
        maps = maps.exp()
    return nn.BatchNorm2d(4)(maps)


@pytest.mark.parametrize("main_is_first", [True, False])
def test_behind_a_residual_sum_the_norm_of_the_main_branch_is_found(main_is_first):
    images = maps()
    main, shortcut = normalised(images, 3), normalised(images, 1)
    total = main + shortcut if main_is_first else shortcut + main
    norms = {main.grad_fn, shortcut.grad_fn}
    assert graph.main_branch_norm(total.flatten(1).grad_fn, norms) is main.grad_fn


@pytest.mark.parametrize(
    "between", [lambda x: x.relu(), lambda x: F.linear(x, torch.ones(4, 4)), lambda x: x * 2]
)
def test_a_norm_is_not_found_through_what_changes_its_distribution(between):
    norm = normalised(maps(), 0)
    assert graph.main_branch_norm(between(norm).grad_fn, {norm.grad_fn}) is None


def test_networks_deeper_than_the_limit_of_recursion():
    main = normalised(maps(), sys.getrecursionlimit() + 10)
    shortcut = normalised(maps(), 0)
    norms = {main.grad_fn, shortcut.grad_fn}
    assert graph.main_branch_norm((main + shortcut).grad_fn, norms) is main.grad_fn

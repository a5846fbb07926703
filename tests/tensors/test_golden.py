"""The original authors' code and this one agree on stored inputs.

The files in tests/golden hold inputs and outputs of the authors' published implementation
(float32, CPU). `remainder_*` has T mod S != 0, where the original drops teacher channels by number;
given its matching, targets and losses must still agree.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import mgd

FILES = sorted((Path(__file__).parents[1] / "golden").glob("*.npz"))
REDUCERS = ("amp", "sp", "sm")


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def golden(request):
    with np.load(request.param) as arrays:
        return SimpleNamespace(**{name: torch.from_numpy(arrays[name]) for name in arrays})


def agree(ours, theirs, tolerance=1e-5):
    theirs = theirs.float()
    scale = theirs.abs().max()
    assert (ours.float() - theirs).abs().max() <= tolerance * scale


def test_files_are_there():
    assert len(FILES) == 3


def test_distance(golden):
    agree(mgd.channel_distance(golden.student, golden.teacher), golden.distance)


def test_margin(golden):
    norm = nn.BatchNorm2d(len(golden.bn_weight))
    norm.weight.data, norm.bias.data = golden.bn_weight, golden.bn_bias
    torch.testing.assert_close(mgd.margin_from_norm(norm), golden.margin, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("solver", ["scipy", "ortools"])
def test_assignment_cost_is_optimal(golden, solver):
    for groups, optimum in ((None, golden.assignment_cost_optimal), (1, golden.sm_cost_optimal)):
        matching = mgd.assign(golden.distance, groups, solver)
        cost = golden.distance.T.gather(0, matching).sum()
        torch.testing.assert_close(cost, optimum, rtol=1e-7, atol=1e-7)


def test_cost_beats_the_original_where_it_dropped_channels(golden):
    assert golden.assignment_cost_optimal <= golden.amp_cost_original + 1e-6


def test_solver_original_drops_the_same_channels(golden):
    matching = mgd.assign(golden.distance, solver="original")
    cost = golden.distance.T.gather(0, matching).sum()
    torch.testing.assert_close(cost, golden.amp_cost_original, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", REDUCERS)
def test_target_loss_and_gradient(golden, name):
    reducer = mgd.REDUCERS[name]
    matching = getattr(golden, f"{name}_matching")
    target = reducer.features(golden.teacher[:, matching])
    margin = reducer.margin(golden.margin[matching])
    student = golden.student.clone().requires_grad_()
    loss = mgd.partial_l2(nn.BatchNorm2d(student.shape[1])(student), target, margin).sum()
    loss.backward()
    agree(target, getattr(golden, f"{name}_target"))
    agree(margin, getattr(golden, f"{name}_target_margin"))
    agree(loss.detach(), getattr(golden, f"{name}_feature_loss"))
    agree(student.grad, getattr(golden, f"{name}_grad"))


def test_kd(golden):
    loss = mgd.logit_kd(golden.student_logits, golden.teacher_logits, 1.5).mean()
    agree(loss, golden.kd_loss, tolerance=1e-6)

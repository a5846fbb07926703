"""Losses: the slow reference, gradients, bounds, and float32 under autocast."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mgd
import reference

few = settings(max_examples=25, deadline=None)
SIZES = st.tuples(*(st.integers(1, top) for top in (3, 4, 4, 4)))
SEEDS = st.integers(0, 2**16)


def inputs(seed, sizes):
    generator = torch.Generator().manual_seed(seed)
    student, target = (torch.randn(sizes, generator=generator) for _ in range(2))
    return student, target, -torch.rand(sizes[1], generator=generator)


def doubles(*tensors):
    return [tensor.double().numpy() for tensor in tensors]


@few
@given(SIZES, SEEDS)
def test_partial_l2_equals_the_reference(sizes, seed):
    student, target, margin = inputs(seed, sizes)
    slow = reference.partial_l2(*doubles(student, target, margin))
    fast = mgd.partial_l2(student, target, margin)
    assert fast.shape == (sizes[0],)
    np.testing.assert_allclose(fast.numpy(), slow, rtol=1e-5, atol=1e-6)


@few
@given(SIZES, SEEDS)
def test_partial_l2_gradient_equals_the_reference(sizes, seed):
    student, target, margin = inputs(seed, sizes)
    student.requires_grad_()
    mgd.partial_l2(student, target, margin).sum().backward()
    slow = reference.partial_l2_gradient(*doubles(student.detach(), target, margin))
    # The loss jumps where a student crosses a negative target: leave those points out.
    wanted = torch.maximum(target, margin[:, None, None])
    smooth = ((student.detach() - wanted).abs() > 1e-4).numpy()
    np.testing.assert_allclose(student.grad.numpy()[smooth], slow[smooth], atol=1e-4)


@few
@given(SIZES, SEEDS)
def test_images_do_not_mix(sizes, seed):
    student, target, margin = inputs(seed, sizes)
    together = mgd.partial_l2(student, target, margin)
    alone = [mgd.partial_l2(s[None], t[None], margin) for s, t in zip(student, target, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone))


@few
@given(SIZES, SEEDS)
def test_channels_may_be_renumbered_together(sizes, seed):
    student, target, margin = inputs(seed, sizes)
    order = torch.randperm(sizes[1], generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        mgd.partial_l2(student[:, order], target[:, order], margin[order]),
        mgd.partial_l2(student, target, margin),
    )


@pytest.mark.parametrize(
    ("student", "target", "margin", "loss"),
    [
        (3.0, 1.0, -0.5, 4.0),  # above a positive target
        (-1.0, 1.0, -0.5, 4.0),  # below a positive target
        (0.5, -0.2, -0.5, 0.49),  # above a negative target
        (-9.0, -0.2, -0.5, 0.0),  # below a negative target: the ReLU makes both zero
        (0.5, -9.0, -0.5, 1.0),  # the target is not below the margin
        (-0.6, -9.0, -0.5, 0.0),  # and below the margin is low enough
        (0.0, 0.0, 0.0, 0.0),
    ],
)
def test_each_case_of_partial_l2(student, target, margin, loss):
    one = torch.ones(1, 1, 1, 1)
    result = mgd.partial_l2(one * student, one * target, torch.tensor([margin]))
    assert result.item() == pytest.approx(loss, abs=1e-6)


def test_positions_that_do_not_count_get_no_gradient():
    student = torch.tensor([-2.0, 2.0]).view(1, 1, 1, 2).requires_grad_()
    mgd.partial_l2(student, torch.full_like(student, -0.1), torch.tensor([-0.3])).sum().backward()
    assert student.grad.flatten().tolist() == pytest.approx([0, 2 * 2.1])


def test_no_gradient_flows_into_the_target():
    student, target, margin = inputs(0, (2, 3, 4, 4))
    target.requires_grad_()
    mgd.partial_l2(student.requires_grad_(), target, margin).sum().backward()
    assert target.grad is None
    assert student.grad.any()


def test_partial_l2_keeps_one_tensor_for_the_backward():
    student, target, margin = inputs(0, (2, 3, 4, 4))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda packed: packed):
        mgd.partial_l2(student.requires_grad_(), target, margin)
    assert [tensor.shape for tensor in kept] == [student.shape]


def test_partial_l2_changes_nothing_that_it_is_given():
    given = inputs(0, (2, 3, 4, 4))
    copies = [tensor.clone() for tensor in given]
    mgd.partial_l2(*given)
    assert all(map(torch.equal, given, copies))


def test_partial_l2_in_place_gives_the_same_and_keeps_its_difference_in_the_target():
    student, target, margin = inputs(0, (2, 3, 4, 4))
    grad = torch.rand(2)
    results = []
    for theirs, inplace in ((target.clone(), False), (target, True)):
        ours = student.clone().requires_grad_()
        losses = mgd.partial_l2(ours, theirs, margin, inplace=inplace)
        (kept,) = losses.grad_fn.saved_tensors
        assert (kept.data_ptr() == theirs.data_ptr()) is inplace
        losses.backward(grad)
        results.append((losses, ours.grad))
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_partial_l2_has_no_second_derivative_rather_than_a_wrong_one():
    student, target, margin = inputs(0, (2, 3, 4, 4))
    loss = mgd.partial_l2(student.requires_grad_(), target, margin).square().sum()
    (gradient,) = torch.autograd.grad(loss, student, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_partial_l2_in_blocks_equals_that_of_each_image():
    student, target, margin = inputs(0, (5, 4, 300, 300))  # a block holds one image of these
    student.requires_grad_()
    losses = mgd.partial_l2(student, target, margin)
    weights = torch.arange(5.0)
    (losses * weights).sum().backward()
    for index, weight in enumerate(weights):
        one = student[index : index + 1].detach().requires_grad_()
        (weight * mgd.partial_l2(one, target[index : index + 1], margin)).sum().backward()
        assert torch.equal(one.grad[0], student.grad[index])


def test_partial_l2_keeps_the_memory_order():
    student, target, margin = inputs(0, (2, 8, 4, 4))
    last = student.contiguous(memory_format=torch.channels_last).requires_grad_()
    mgd.partial_l2(last, target, margin).sum().backward()
    mgd.partial_l2(student.requires_grad_(), target, margin).sum().backward()
    assert last.grad.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last.grad, student.grad)


def test_a_feature_that_is_no_number_shows_in_the_loss():
    student, target, margin = inputs(0, (2, 3, 4, 4))
    student[1, 0, 0, 0] = torch.nan
    assert mgd.partial_l2(student, -target.abs(), margin).isnan().tolist() == [False, True]


@pytest.mark.parametrize("target", [1e-45, 1e-38, 0.0, -1e-45])
def test_the_smallest_positive_target_counts(target):
    one = torch.ones(1, 1, 1, 1)
    loss = mgd.partial_l2(-3 * one, target * one, torch.tensor([-1.0]))
    assert loss.item() == pytest.approx(9 if target > 0 else 0)


def test_partial_l2_keeps_float32_under_autocast_and_for_half_inputs():
    student, target, margin = (tensor.bfloat16() for tensor in inputs(0, (2, 8, 16, 16)))
    exact = mgd.partial_l2(student.float(), target.float(), margin.float())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mgd.partial_l2(student, target, margin), exact)
    assert exact.dtype == torch.float32


def test_large_half_precision_features_do_not_overflow():
    student = torch.full((1, 1, 4, 4), 300.0, dtype=torch.float16)
    loss = mgd.partial_l2(student, -student, torch.zeros(1))
    assert loss.item() == 16 * 300**2


@pytest.mark.parametrize("num_points", [0, 1, 4])
def test_point_weights_equal_the_reference(num_points):
    assert mgd.point_weights(num_points).tolist() == reference.point_weights(num_points).tolist()


def test_point_weights_are_those_published():
    assert mgd.point_weights(4).tolist() == [0.125, 0.25, 0.5, 1]

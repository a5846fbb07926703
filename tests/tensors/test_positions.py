"""Losses with weights over positions: slow references, and laws."""

import numpy as np
import pytest
import torch

import mgd
import reference
from mgd.tensors.positions import resize_weights

SHAPE = (3, 4, 5, 6)


def inputs(dtype=torch.float32):
    student, target = torch.randn(2, *SHAPE, dtype=dtype)
    weights = torch.rand(SHAPE[0], *SHAPE[2:], dtype=dtype)
    weights[:, 1:3, 2:] = 0
    return student, target, weights


def losses():
    margin = -torch.rand(SHAPE[1])
    return {
        "partial_l2": lambda s, t, w: mgd.partial_l2(s, t, margin, weights=w),
        "l2": mgd.squared_l2,
        "softmax": lambda s, t, w: mgd.position_kl(s, t, 2.0, w),
    }


@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_the_softmax_over_positions_equals_the_reference(temperature):
    student, target, weights = inputs()
    arrays = [tensor.double().numpy() for tensor in (student, target)]
    slow = reference.position_kl(*arrays, temperature, weights.double().numpy())
    fast = mgd.position_kl(student, target, temperature, weights)
    np.testing.assert_allclose(fast.numpy(), slow, rtol=1e-4, atol=1e-6)


def test_squared_and_partial_l2_with_weights_equal_the_reference():
    student, target, weights = inputs()
    margin = -torch.rand(SHAPE[1])
    wanted = torch.maximum(target, margin[:, None, None])
    partial = (student - wanted) ** 2 * ((student > wanted) | (wanted > 0))
    scale = SHAPE[1] * weights.sum((1, 2)).numpy()
    for values, loss in (
        ((student - target) ** 2, mgd.squared_l2(student, target, weights)),
        (partial, mgd.partial_l2(student, target, margin, weights=weights)),
    ):
        slow = reference.weighted_mean(values.double().numpy(), weights.double().numpy()) * scale
        np.testing.assert_allclose(loss.numpy(), slow, rtol=1e-4)


@pytest.mark.parametrize("name", ["partial_l2", "l2", "softmax"])
def test_weights_of_one_are_no_weights(name):
    student, target, weights = inputs()
    loss = losses()[name]
    ones = torch.ones_like(weights)
    torch.testing.assert_close(loss(student, target, ones), loss(student, target, None))


@pytest.mark.parametrize("name", ["partial_l2", "l2", "softmax"])
def test_a_position_without_weight_has_no_influence_and_no_gradient(name):
    student, target, weights = inputs()
    loss = losses()[name]
    hidden = (weights == 0)[:, None]
    elsewhere = torch.where(hidden, torch.randn(SHAPE), student).requires_grad_()
    other_target = torch.where(hidden, torch.randn(SHAPE), target)
    found = loss(elsewhere, other_target, weights)
    torch.testing.assert_close(found, loss(student, target, weights))
    found.sum().backward()
    assert not elsewhere.grad.masked_select(hidden).any()
    assert elsewhere.grad.masked_select(~hidden).any()


def test_the_gradient_of_the_partial_l2_follows_its_weights():
    """Against autograd on the plain formula."""
    student, target, weights = inputs()
    margin = -torch.rand(SHAPE[1])
    fast, slow = (student.clone().requires_grad_() for _ in range(2))
    mgd.partial_l2(fast, target.clone(), margin, True, weights).sum().backward()
    wanted = torch.maximum(target, margin[:, None, None])
    counted = (slow > wanted) | (wanted > 0)
    ((slow - wanted).square() * counted * weights[:, None]).sum().backward()
    torch.testing.assert_close(fast.grad, slow.grad)


def test_the_softmax_does_not_see_a_channels_level_nor_the_weights_scale():
    student, target, weights = inputs()
    plain = mgd.position_kl(student, target, 4.0, weights)
    shifted = mgd.position_kl(student + torch.randn(3, 4, 1, 1), target, 4.0, weights * 7)
    torch.testing.assert_close(shifted, plain, atol=1e-5, rtol=1e-4)
    assert (plain > 0).all()


def test_an_image_without_weights_has_no_loss_and_a_finite_gradient():
    student, target, weights = inputs()
    weights[1] = 0
    student.requires_grad_()
    loss = mgd.position_kl(student, target, 4.0, weights)
    loss.sum().backward()
    assert loss[1] == 0
    assert student.grad[1].abs().max() < 1e-6
    assert student.grad[0].abs().max() > 1e-3


def test_weights_keep_their_mean_when_they_are_resized():
    weights = torch.rand(2, 8, 12)
    smaller = resize_weights(weights, (4, 3))
    torch.testing.assert_close(smaller.mean((1, 2)), weights.mean((1, 2)))
    assert torch.equal(resize_weights(smaller, (8, 6))[:, ::2, ::2], smaller)

"""Losses on logits: the slow references, their laws, and float32 under autocast."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mgd
import reference

few = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 2**16)
LABELS = torch.tensor([0, 6, 2, 2])
LOSSES = {
    "kd": mgd.logit_kd,
    "dkd": lambda ours, theirs, *t: mgd.decoupled_kd(ours, theirs, LABELS[: len(ours)], *t),
    "dist": mgd.dist_kd,
    "standardised": mgd.standardised_kd,
}
TOLERANCES = {
    "kd": 1e-4,
    "dkd": 1e-3,
    "dist": 1e-3,
    "standardised": 1e-4,
}  # beta and T multiply what rounding leaves
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def logits(seed, batch=4, classes=7):
    generator = torch.Generator().manual_seed(seed)
    return tuple(3 * torch.randn(batch, classes, generator=generator) for _ in range(2))


def doubles(*tensors):
    return [tensor.double().numpy() for tensor in tensors]


def test_the_table_has_them_all():
    assert mgd.LOGIT_LOSSES.keys() == LOSSES.keys()


@few
@given(SEEDS, st.floats(0.5, 20))
def test_logit_kd_equals_the_reference(seed, temperature):
    ours, theirs = logits(seed)
    slow = reference.logit_kd(*doubles(ours, theirs), temperature)
    fast = mgd.logit_kd(ours, theirs, temperature)
    np.testing.assert_allclose(fast.numpy(), slow, rtol=1e-4, atol=1e-5)


@few
@given(SEEDS, st.floats(0.5, 20), st.floats(0, 10))
def test_decoupled_kd_equals_the_reference(seed, temperature, beta):
    ours, theirs = logits(seed)
    slow = reference.decoupled_kd(*doubles(ours, theirs), LABELS.tolist(), temperature, beta)
    fast = mgd.decoupled_kd(ours, theirs, LABELS, temperature, beta)
    np.testing.assert_allclose(fast.numpy(), slow, rtol=1e-4, atol=1e-4)


@few
@given(SEEDS, st.floats(0.5, 20))
def test_dist_kd_equals_the_reference(seed, temperature):
    ours, theirs = logits(seed)
    slow = reference.dist_kd(*doubles(ours, theirs), temperature)
    fast = mgd.dist_kd(ours, theirs, temperature)
    np.testing.assert_allclose(fast.numpy(), slow, rtol=1e-3, atol=1e-3)


@few
@given(SEEDS, st.floats(0.5, 20))
def test_standardised_kd_equals_the_reference(seed, temperature):
    ours, theirs = logits(seed)
    slow = reference.standardised_kd(*doubles(ours, theirs), temperature)
    fast = mgd.standardised_kd(ours, theirs, temperature)
    np.testing.assert_allclose(fast.numpy(), slow, rtol=1e-4, atol=1e-4)


@few
@given(SEEDS, st.floats(0.1, 10), st.floats(-30, 30))
def test_standardised_kd_ignores_scale_and_shift_of_logits(seed, scale, shift):
    ours, theirs = logits(seed)
    moved = mgd.standardised_kd(scale * ours + shift, theirs)
    torch.testing.assert_close(moved, mgd.standardised_kd(ours, theirs), rtol=1e-3, atol=1e-4)


def test_standardised_kd_of_equal_logits_has_a_gradient_that_is_a_number():
    ours = torch.ones(1, 3, requires_grad=True)
    mgd.standardised_kd(ours, torch.tensor([[3.0, 1.0, 2.0]])).sum().backward()
    assert ours.grad.isfinite().all()


@few
@given(SEEDS, st.floats(0.5, 10))
def test_kd_is_decoupled_kd_with_the_teachers_doubt_for_beta(seed, temperature):
    # Equation 7 of Zhao et al.: KL = TCKD + (1 - p_label) NCKD.
    ours, theirs = (x[:1] for x in logits(seed))
    label = torch.tensor([3])
    doubt = 1 - float((theirs / temperature).softmax(1)[0, 3])
    coupled = mgd.logit_kd(ours, theirs, temperature)
    apart = mgd.decoupled_kd(ours, theirs, label, temperature, doubt)
    torch.testing.assert_close(apart, coupled, rtol=1e-4, atol=1e-4)


@few
@given(SEEDS, st.floats(0.1, 5), st.floats(-3, 3))
def test_dist_ignores_scale_and_shift_of_probabilities(seed, scale, shift):
    # What it asks for is a correlation: an affine change of all probabilities is no fault.
    ours, _ = logits(seed)
    probabilities = ours.softmax(1)
    changed = (0.5 * probabilities + 0.5 / 7).log() + shift
    assert mgd.dist_kd(changed, ours).abs().max() < 1e-4


@pytest.mark.parametrize("name", LOSSES)
@few
@given(seed=SEEDS, shift=st.floats(-50, 50))
def test_losses_are_positive_and_ignore_a_common_shift(name, seed, shift):
    ours, theirs = logits(seed)
    loss, tolerance = LOSSES[name], TOLERANCES[name]
    value = loss(ours, theirs)
    assert value.shape == (4,)
    assert (value > 0).all()
    torch.testing.assert_close(loss(ours + shift, theirs), value, rtol=tolerance, atol=tolerance)
    assert loss(theirs + shift, theirs).abs().max() < tolerance


@every_loss
def test_certain_networks_have_a_finite_loss_and_gradient(loss):
    ours = torch.tensor([[500.0, -500, 0, 0, 0, 0, 0], [9.0, 0, 0, 0, 0, 0, 0]]).requires_grad_()
    theirs = torch.tensor([[-500.0, 500, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 9.0]])
    value = loss(ours, theirs, 1.0)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(ours.grad).all()


@every_loss
def test_no_gradient_flows_into_the_teacher(loss):
    ours, theirs = (tensor.requires_grad_() for tensor in logits(0))
    loss(ours, theirs).sum().backward()
    assert theirs.grad is None
    assert ours.grad.any()


@every_loss
def test_float32_is_kept_under_autocast_and_for_half_inputs(loss):
    ours, theirs = (tensor.bfloat16() for tensor in logits(0))
    exact = loss(ours.float(), theirs.float())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(ours, theirs), exact)
    assert exact.dtype == torch.float32


@every_loss
@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperature_must_be_positive(loss, temperature):
    with pytest.raises(ValueError, match=r"`temperature` \(=.*\) must be above 0"):
        loss(*logits(0), temperature)

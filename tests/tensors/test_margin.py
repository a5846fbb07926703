"""Margins: numerical integration, sampled normals, and the edges of the formula."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import mgd
import reference

few = settings(max_examples=25, deadline=None)


def norm(weight, bias):
    module = nn.BatchNorm2d(len(weight))
    module.weight.data, module.bias.data = torch.tensor(weight), torch.tensor(bias)
    return module


@few
@given(st.floats(0.05, 5), st.floats(-10, 2.9))
def test_equals_the_integrated_density(sigma, ratio):
    mu = sigma * ratio
    margin = mgd.margin_from_norm(norm([sigma], [mu])).item()
    assert margin == pytest.approx(reference.margin_of_normal(sigma, mu), rel=1e-3)


@few
@given(st.floats(0.05, 5), st.floats(-20, 20), st.floats(0.1, 10))
def test_scaling_a_channel_scales_its_margin(sigma, mu, factor):
    one, other = mgd.margin_from_norm(norm([sigma, sigma * factor], [mu, mu * factor])).tolist()
    assert other == pytest.approx(one * factor, rel=1e-4, abs=1e-6)


@few
@given(st.floats(0.05, 5), st.floats(-20, 20))
def test_sign_of_the_weight_means_nothing(sigma, mu):
    one, other = mgd.margin_from_norm(norm([sigma, -sigma], [mu, mu])).tolist()
    assert one == other


@few
@given(st.floats(0, 2.0**100, width=32), st.floats(-(2.0**100), 2.0**100, width=32))
def test_is_finite_and_never_positive_at_any_scale(sigma, mu):
    margin = mgd.margin_from_norm(norm([sigma], [mu]))
    assert torch.isfinite(margin).all()
    assert margin <= min(mu, 0)


def test_half_a_standard_normal_is_known_in_closed_form():
    margin = mgd.margin_from_norm(norm([1.0], [0.0])).item()
    assert margin == pytest.approx(-((2 / np.pi) ** 0.5), rel=1e-6)


def test_is_the_mean_of_the_negative_samples():
    x = torch.randn(400_000) * 0.7 + 0.3
    margin = mgd.margin_from_norm(norm([0.7], [0.3])).item()
    assert margin == pytest.approx(x[x < 0].mean().item(), rel=0.01)


def test_hardly_ever_negative_is_minus_three_sigma():
    # Phi(-3.09) = 0.001000; the formula holds just above, the constant just below.
    margins = mgd.margin_from_norm(norm([2.0, 2.0], [2 * 3.0, 2 * 3.1])).tolist()
    assert margins[0] == pytest.approx(reference.margin_of_normal(2, 6), rel=1e-3)
    assert margins[0] > -1
    assert margins[1] == -6


def test_far_below_zero_the_margin_is_the_mean_itself():
    assert mgd.margin_from_norm(norm([1e-3], [-50.0])).item() == pytest.approx(-50, rel=1e-6)


def test_zero_weight_is_a_constant_channel():
    assert mgd.margin_from_norm(norm([0.0, 0.0, 0.0], [-2.0, 0.0, 2.0])).tolist() == [-2, 0, 0]


def test_without_affine_parameters_outputs_are_standard_normal():
    plain = mgd.margin_from_norm(nn.BatchNorm2d(3, affine=False))
    assert torch.equal(plain, mgd.margin_from_norm(nn.BatchNorm2d(3)))


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm3d, nn.SyncBatchNorm])
def test_every_batch_norm_of_torch_will_do(kind):
    torch.testing.assert_close(
        mgd.margin_from_norm(kind(4)), mgd.margin_from_norm(nn.BatchNorm2d(4))
    )


def test_half_precision_parameters_are_read_exactly():
    module = norm([0.5, 2.0], [0.25, -1.0])
    exact = mgd.margin_from_norm(module)
    half = mgd.margin_from_norm(module.half())
    assert half.dtype == torch.float32
    assert torch.equal(half, exact)


def test_no_gradient_and_parameters_untouched():
    module = norm([0.0, -1.0], [0.5, 0.5])
    assert not mgd.margin_from_norm(module).requires_grad
    assert module.weight.tolist() == [0, -1]


@few
@given(st.tuples(*(st.integers(1, 4),) * 4), st.integers(0, 2**16))
def test_from_features_equals_the_reference(shape, seed):
    features = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + 0.5
    slow = reference.margin_from_features(features.double().numpy())
    np.testing.assert_allclose(mgd.margin_from_features(features).numpy(), slow, atol=1e-6)


def test_from_features_of_a_channel_that_is_never_negative_is_zero():
    assert mgd.margin_from_features(torch.rand(2, 3, 4, 4)).tolist() == [0, 0, 0]


def test_measured_and_computed_margins_agree_behind_a_batch_norm():
    module = norm([0.5, 1.5], [0.2, -0.4])
    features = module(torch.randn(64, 2, 40, 40)).detach()
    torch.testing.assert_close(
        mgd.margin_from_features(features), mgd.margin_from_norm(module), rtol=0.02, atol=0
    )


def test_from_half_precision_features_sums_in_float32():
    features = torch.full((8, 1, 64, 64), -4.0, dtype=torch.float16)
    assert mgd.margin_from_features(features).item() == -4

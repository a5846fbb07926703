"""Channel distance: the slow reference, and the laws of a cosine."""

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mgd
import reference

few = settings(max_examples=30, deadline=None)
SIZES = st.tuples(*(st.integers(1, top) for top in (3, 5, 7, 4, 4)))
SEEDS = st.integers(0, 2**16)


def features(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pair(sizes, seed):
    batch, student, teacher, height, width = sizes
    return (
        features(seed, batch, student, height, width),
        features(seed + 1, batch, teacher, height, width),
    )


@few
@given(SIZES, SEEDS, st.sampled_from([1e-6, 1.0, 1e6]))
def test_equals_the_reference(sizes, seed, scale):
    student, teacher = pair(sizes, seed)
    slow = reference.channel_distance(
        student.double().numpy() * scale, teacher.double().numpy() * scale
    )
    fast = mgd.channel_distance(student * scale, teacher * scale)
    np.testing.assert_allclose(fast.numpy(), slow, atol=2e-6)


@few
@given(SIZES, SEEDS)
def test_is_within_0_and_4_and_float32(sizes, seed):
    distance = mgd.channel_distance(*pair(sizes, seed))
    assert distance.dtype == torch.float32
    assert distance.min() >= 0
    assert distance.max() <= 4


@few
@given(SIZES, SEEDS, st.floats(1e-3, 1e3))
def test_scaling_one_channel_changes_nothing(sizes, seed, factor):
    student, teacher = pair(sizes, seed)
    before = mgd.channel_distance(student, teacher)
    teacher[:, 0] *= factor
    torch.testing.assert_close(mgd.channel_distance(student, teacher), before, rtol=0, atol=3e-6)


@few
@given(SIZES, SEEDS)
def test_flipping_the_sign_mirrors_the_distance_about_2(sizes, seed):
    student, teacher = pair(sizes, seed)
    there, back = mgd.channel_distance(student, teacher), mgd.channel_distance(-student, teacher)
    torch.testing.assert_close(there + back, torch.full_like(there, 4), rtol=0, atol=1e-5)


@few
@given(SIZES, SEEDS)
def test_swapping_the_two_transposes(sizes, seed):
    student, teacher = pair(sizes, seed)
    there, back = mgd.channel_distance(student, teacher), mgd.channel_distance(teacher, student)
    torch.testing.assert_close(there, back.T, rtol=0, atol=2e-6)


@few
@given(SIZES, SEEDS, SEEDS)
def test_mean_over_images_is_the_mean_of_the_halves(sizes, seed, other):
    student, teacher = pair(sizes, seed)
    more_student, more_teacher = pair(sizes, other)
    halves = [
        mgd.channel_distance(student, teacher),
        mgd.channel_distance(more_student, more_teacher),
    ]
    whole = mgd.channel_distance(
        torch.cat([student, more_student]), torch.cat([teacher, more_teacher])
    )
    torch.testing.assert_close(whole, sum(halves) / 2, rtol=0, atol=3e-6)


def test_a_channel_is_at_distance_0_from_itself_and_4_from_its_negative():
    x = features(0, 2, 3, 4, 4)
    same, opposite = mgd.channel_distance(x, x), mgd.channel_distance(x, -x)
    torch.testing.assert_close(same.diagonal(), torch.zeros(3), rtol=0, atol=1e-6)
    torch.testing.assert_close(opposite.diagonal(), torch.full((3,), 4.0), rtol=0, atol=1e-6)


def test_constant_channels_of_one_sign_are_the_same_channel():
    distance = mgd.channel_distance(torch.full((2, 1, 3, 3), 0.1), torch.full((2, 1, 3, 3), 7.0))
    torch.testing.assert_close(distance, torch.zeros(1, 1), rtol=0, atol=1e-6)


def test_a_dead_channel_is_at_exactly_2_from_all():
    student, teacher = features(0, 2, 3, 4, 4), features(1, 2, 5, 4, 4)
    student[:, 1] = 0
    teacher[:, 4] = 0
    distance = mgd.channel_distance(student, teacher)
    assert (distance[1] == 2).all()
    assert (distance[:, 4] == 2).all()
    assert (distance[0, :4] != 2).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_computed_in_float32(dtype):
    student, teacher = features(0, 2, 3, 4, 4).to(dtype), features(1, 2, 5, 4, 4).to(dtype)
    distance = mgd.channel_distance(student, teacher)
    assert distance.dtype == torch.float32
    assert torch.equal(distance, mgd.channel_distance(student.float(), teacher.float()))


def test_autocast_does_not_take_digits_away():
    student, teacher = features(0, 2, 8, 16, 16), features(1, 2, 8, 16, 16)
    exact = mgd.channel_distance(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mgd.channel_distance(student, teacher), exact)


def test_half_precision_of_large_values_does_not_overflow():
    student = torch.full((1, 1, 8, 8), 60_000.0, dtype=torch.float16)
    assert mgd.channel_distance(student, student).item() == pytest.approx(0, abs=1e-6)


def test_no_gradient_comes_out():
    student = features(0, 2, 3, 4, 4).requires_grad_()
    assert not mgd.channel_distance(student, student).requires_grad


def test_nan_stays_visible():
    student = features(0, 2, 3, 4, 4)
    student[0, 1, 0, 0] = float("nan")
    distance = mgd.channel_distance(student, features(1, 2, 5, 4, 4))
    assert distance[1].isnan().all()
    assert not distance[[0, 2]].isnan().any()


@pytest.mark.parametrize("shape", [(3, 5, 4, 4), (2, 5, 2, 4), (2, 5, 4, 2)])
def test_other_images_or_positions_are_refused(shape, monkeypatch):
    # As a user without shape checking meets it.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match="same images, height and width; pool the larger"):
        mgd.channel_distance(features(0, 2, 3, 4, 4), features(1, *shape))

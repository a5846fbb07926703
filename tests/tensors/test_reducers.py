"""Reducers: the slow reference, and the law that each is chosen for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mgd
import reference

few = settings(max_examples=25, deadline=None)
FOLDS = ("amp", "sp", "avg")
SIZES = st.tuples(*(st.integers(1, top) for top in (3, 5, 4, 3, 3)))
SEEDS = st.integers(0, 2**16)


def stack(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@few
@pytest.mark.parametrize("name", FOLDS)
@given(SIZES, SEEDS)
def test_features_equal_the_reference(name, sizes, seed):
    grouped = stack(seed, *sizes)
    slow = reference.reduce_features(grouped.double().numpy(), name)
    np.testing.assert_allclose(mgd.REDUCERS[name].features(grouped).numpy(), slow, atol=1e-6)


@few
@pytest.mark.parametrize("name", FOLDS)
@given(st.integers(1, 6), st.integers(1, 6), SEEDS)
def test_margins_equal_the_reference(name, groups, student, seed):
    margins = -stack(seed, groups, student).abs()
    slow = reference.reduce_margins(margins.double().numpy(), name)
    np.testing.assert_allclose(mgd.REDUCERS[name].margin(margins).numpy(), slow, atol=1e-6)


@few
@pytest.mark.parametrize("name", mgd.REDUCERS)
@given(SIZES, SEEDS)
def test_one_group_is_taken_as_it_is(name, sizes, seed):
    batch, _, *rest = sizes
    grouped = stack(seed, batch, 1, *rest)
    assert torch.equal(mgd.REDUCERS[name].features(grouped), grouped[:, 0])
    assert torch.equal(mgd.REDUCERS[name].margin(grouped[0, :, :, 0, 0]), grouped[0, 0, :, 0, 0])


@few
@pytest.mark.parametrize("name", FOLDS)
@given(SIZES, SEEDS, SEEDS)
def test_the_order_of_the_groups_means_nothing(name, sizes, seed, other):
    grouped = stack(seed, *sizes)
    order = torch.randperm(sizes[1], generator=torch.Generator().manual_seed(other))
    reducer = mgd.REDUCERS[name]
    torch.testing.assert_close(reducer.features(grouped[:, order]), reducer.features(grouped))


@few
@pytest.mark.parametrize("name", ["amp", "sp", "rd"])
@given(SIZES, SEEDS)
def test_every_value_is_one_of_the_group(name, sizes, seed):
    grouped = stack(seed, *sizes)
    reduced = mgd.REDUCERS[name].features(grouped)
    assert (grouped == reduced[:, None]).any(1).all()


def test_absolute_max_keeps_the_sign():
    grouped = torch.tensor([1.0, -3.0, 2.0]).view(1, 3, 1, 1, 1)
    assert mgd.REDUCERS["amp"].features(grouped).item() == -3
    assert mgd.REDUCERS["amp"].features(-grouped).item() == 3
    assert mgd.REDUCERS["sp"].features(grouped).item() == 2


def test_absolute_max_is_odd():
    grouped = stack(0, 2, 4, 3, 2, 2)
    amp = mgd.REDUCERS["amp"]
    assert torch.equal(amp.features(-grouped), -amp.features(grouped))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_absolute_max_of_opposites_is_the_positive_and_close_ones_are_told_apart(dtype):
    amp, step = mgd.REDUCERS["amp"], torch.finfo(dtype).eps
    for pair, kept in (((2, -2), 2), ((-2, 2), 2), ((1, -1 - step), -1 - step), ((0, 0), 0)):
        grouped = torch.tensor(pair, dtype=dtype).view(1, 2, 1, 1, 1)
        assert amp.features(grouped).item() == kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_random_drop_keeps_each_of_three_equally_often(dtype):
    count = 1_000_000
    grouped = torch.arange(3, dtype=dtype).view(1, 3, 1, 1, 1).expand(1, 3, 1, 1000, 1000)
    kept = mgd.REDUCERS["rd"].features(grouped)
    assert kept.dtype == dtype
    share = kept.flatten().long().bincount(minlength=3) / count
    # Four standard deviations; bfloat16 random numbers alone would be 0.0026 off.
    torch.testing.assert_close(share, torch.full((3,), 1 / 3), rtol=0, atol=0.0019)


def test_random_drop_draws_anew_for_images_channels_and_positions():
    grouped = torch.arange(3.0).view(1, 3, 1, 1, 1).expand(8, 3, 8, 8, 8)
    kept = mgd.REDUCERS["rd"].features(grouped)
    for axis in range(4):
        assert (kept.diff(dim=axis) != 0).any()


def test_random_drop_follows_the_seed():
    grouped = stack(0, 2, 3, 4, 4, 4)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(mgd.REDUCERS["rd"].features(grouped))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_random_drop_margin_is_one_of_the_group_and_all_come_up():
    margins = torch.tensor([[-1.0, -2.0], [-3.0, -4.0]])
    drawn = {tuple(mgd.REDUCERS["rd"].margin(margins).tolist()) for _ in range(64)}
    assert drawn == {(-1.0, -2.0), (-1.0, -4.0), (-3.0, -2.0), (-3.0, -4.0)}


def test_sparse_refuses_a_stack():
    with pytest.raises(ValueError, match=r"'sm' takes one teacher channel .* groups=1"):
        mgd.REDUCERS["sm"].features(stack(0, 1, 2, 3, 2, 2))


def test_only_sparse_matching_is_sparse():
    assert [name for name, reducer in mgd.REDUCERS.items() if reducer.sparse] == ["sm"]


def test_a_generator_of_groups_gives_the_same_as_the_stack():
    grouped = stack(0, 2, 3, 4, 2, 2)
    reducer = mgd.REDUCERS["amp"]
    stream = (grouped[:, group] for group in range(3))
    assert torch.equal(reducer.reduce(stream), reducer.features(grouped))


@pytest.mark.parametrize("name", FOLDS)
def test_the_stack_is_not_written_to(name):
    grouped = stack(0, 2, 3, 4, 2, 2)
    before = grouped.clone()
    mgd.REDUCERS[name].features(grouped)
    assert torch.equal(grouped, before)

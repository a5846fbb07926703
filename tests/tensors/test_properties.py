"""Laws of the floor-0 functions on whatever hypothesis thinks of."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import mgd
from mgd.errors import InputError
from mgd.tensors.margin import margin_from_features, margin_from_norm

lawful = settings(max_examples=100, deadline=None, derandomize=True, database=None)
SIZES = st.tuples(*(st.integers(1, most) for most in (3, 6, 9, 4, 4)))
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16])
FILLS = st.sampled_from(["normal", "constant", "dead", "dead channel", "tiny", "huge", "negative"])


@st.composite
def features(draw):
    """Draws student and teacher features of one size, in any type, with odd contents."""
    batch, student, teacher, height, width = draw(SIZES)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(DTYPES)

    def one(channels):
        values = torch.randn(batch, channels, height, width, generator=generator)
        fill = draw(FILLS)
        if fill == "constant":
            values = torch.full_like(values, draw(st.floats(-100, 100)))
        elif fill == "dead":
            values = torch.zeros_like(values)
        elif fill == "dead channel":
            values[:, 0] = 0
        elif fill == "negative":
            values = -values.abs()
        values = values * {"tiny": 1e-6, "huge": 1e4}.get(fill, 1)
        return values.to(dtype)

    return one(student), one(teacher)


@lawful
@given(features())
def test_distances_are_finite_and_in_range(pair):
    distance = mgd.channel_distance(*pair)
    assert distance.dtype == torch.float32
    assert distance.shape == (pair[0].shape[1], pair[1].shape[1])
    assert distance.isfinite().all()
    assert (distance >= 0).all()
    assert (distance <= 4).all()
    dead = (pair[0] == 0).flatten(2).all(2).all(0)
    assert (distance[dead] == 2).all()


@lawful
@given(features(), st.floats(0.01, 100))
def test_scaling_a_channel_leaves_its_distances(pair, scale):
    student, teacher = (side.double() for side in pair)
    assume((teacher[:, 0].flatten(1).norm(dim=1) > 1e-4).all())
    scaled = teacher.clone()
    scaled[:, 0] *= scale
    before, after = (mgd.channel_distance(student, side) for side in (teacher, scaled))
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-5)


@lawful
@given(features(), st.randoms(use_true_random=False))
def test_permuting_teacher_channels_permutes_the_matching(pair, dice):
    """Costs are made distinct first: between equal ones a solver may choose."""
    distance = mgd.channel_distance(*pair).double()
    distance = distance + torch.rand(distance.shape, dtype=torch.float64) * 0.1
    order = list(range(distance.shape[1]))
    dice.shuffle(order)
    matching = mgd.assign(distance)
    permuted = mgd.assign(distance[:, order])
    back = torch.tensor(order)[permuted].sort(dim=0).values
    if distance.shape[0] <= distance.shape[1]:
        assert torch.equal(back, matching)
    assert distance.T.gather(0, back).sum() == pytest.approx(
        float(distance.T.gather(0, matching).sum()), abs=1e-9
    )


@lawful
@given(features())
def test_both_solvers_pay_the_same(pair):
    pytest.importorskip("ortools")
    distance = mgd.channel_distance(*pair)
    costs = [
        float(distance.double().T.gather(0, mgd.assign(distance, solver=solver)).sum())
        for solver in ("scipy", "ortools")
    ]
    assert costs[0] == pytest.approx(costs[1], abs=1e-6)


@lawful
@given(features(), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_no_number_in_a_feature_is_a_documented_error(pair, value):
    student, teacher = (side.clone() for side in pair)
    teacher[0, 0, 0, 0] = value
    distance = mgd.channel_distance(student, teacher)
    with pytest.raises(InputError, match=r"distances are NaN or infinite; look for NaN"):
        mgd.assign(distance)


@lawful
@given(features(), st.sampled_from(sorted(mgd.REDUCERS)))
def test_reducers_margins_and_losses_are_finite(pair, name):
    student, teacher = pair
    reducer = mgd.REDUCERS[name]
    groups = 1 if reducer.sparse else max(1, teacher.shape[1] // student.shape[1])
    matching = mgd.assign(mgd.channel_distance(student, teacher), groups)
    target = reducer.features(teacher[:, matching])
    assert target.shape == student.shape
    assert target.isfinite().all()
    margins = margin_from_features(teacher)
    assert (margins <= 0).all()
    loss = mgd.partial_l2(student, target, reducer.margin(margins[matching]))
    assert loss.dtype == torch.float32
    assert loss.isfinite().all()
    assert (loss >= 0).all()


@lawful
@given(
    st.lists(
        st.tuples(*[st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32)]),
        min_size=1,
        max_size=8,
    )
)
def test_margins_of_any_norm_are_finite_and_not_positive(affine):
    norm = torch.nn.BatchNorm2d(len(affine))
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([weight for weight, _ in affine]))
        norm.bias.copy_(torch.tensor([bias for _, bias in affine]))
    margin = margin_from_norm(norm)
    assert margin.isfinite().all()
    assert (margin <= 0).all()


@lawful
@given(st.integers(1, 4), st.integers(1, 9), DTYPES, st.floats(0.1, 20), st.floats(0, 100))
def test_logit_kd_is_finite_not_negative_and_blind_to_a_shift(batch, classes, dtype, heat, shift):
    student, teacher = torch.randn(2, batch, classes).mul(8).to(dtype)
    loss = mgd.logit_kd(student, teacher, heat)
    assert loss.isfinite().all()
    assert (loss >= -1e-3).all()
    moved = mgd.logit_kd(student.float() + shift, teacher.float(), heat)
    plain = mgd.logit_kd(student.float(), teacher.float(), heat)
    torch.testing.assert_close(moved, plain, atol=1e-2, rtol=1e-3)
    same = mgd.logit_kd(teacher, teacher, heat)
    torch.testing.assert_close(same, torch.zeros_like(same), atol=1e-4, rtol=0)

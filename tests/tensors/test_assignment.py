"""Assignment: the least cost, found by trying all; and what a matching must satisfy."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mgd
import reference

EXACT = ("scipy", "ortools")
few = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 2**16)


def distances(seed, num_student, num_teacher):
    generator = torch.Generator().manual_seed(seed)
    return 4 * torch.rand(num_student, num_teacher, generator=generator)


def cost(distance, matching):
    return float(distance.T.double().gather(0, matching).sum())


@st.composite
def problems(draw, most=40):
    num_student = draw(st.integers(1, 8))
    num_teacher = draw(st.integers(1, most))
    groups = draw(st.none() | st.integers(1, max(1, num_teacher // num_student)))
    return distances(draw(SEEDS), num_student, num_teacher), groups


@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("solver", EXACT)
@given(st.integers(1, 3), st.integers(1, 6), SEEDS, st.data())
def test_cost_is_that_of_trying_all(solver, num_student, num_teacher, seed, data):
    distance = distances(seed, num_student, num_teacher)
    groups = data.draw(st.integers(1, max(1, num_teacher // num_student)))
    matching = mgd.assign(distance, groups, solver)
    best = reference.best_cost(distance.double().numpy(), groups)
    assert cost(distance, matching) == pytest.approx(best, abs=1e-6)


@few
@given(problems())
def test_scipy_and_ortools_agree_on_the_cost(problem):
    distance, groups = problem
    costs = [cost(distance, mgd.assign(distance, groups, solver)) for solver in EXACT]
    assert costs[0] == pytest.approx(costs[1], abs=1e-6)


@few
@pytest.mark.parametrize("solver", mgd.SOLVERS)
@given(problems())
def test_shape_order_and_use_of_teacher_channels(solver, problem):
    distance, groups = problem
    num_student, num_teacher = distance.shape
    matching = mgd.assign(distance, groups, solver)
    assert matching.shape == (groups or max(1, num_teacher // num_student), num_student)
    assert matching.dtype == torch.long
    assert (matching.diff(dim=0) > 0).all()  # ascending, so distinct too
    uses = matching.flatten().bincount(minlength=num_teacher)
    assert len(uses) == num_teacher
    assert uses.max() <= -(-num_student // num_teacher)


@few
@given(problems(), SEEDS)
def test_permuting_teacher_channels_permutes_the_matching(problem, seed):
    distance, groups = problem
    order = torch.randperm(distance.shape[1], generator=torch.Generator().manual_seed(seed))
    matching = mgd.assign(distance, groups)
    moved = mgd.assign(distance[:, order], groups)
    if distance.shape[0] <= distance.shape[1]:  # otherwise teacher channels repeat
        assert torch.equal(order[moved].sort(0).values, matching)
    assert cost(distance, order[moved]) == pytest.approx(cost(distance, matching), abs=1e-6)


@few
@given(st.integers(2, 6), st.integers(1, 4), SEEDS, st.data())
def test_considering_all_channels_is_never_worse_than_dropping_the_last(
    num_student, groups, seed, data
):
    used = num_student * groups
    remainder = data.draw(st.integers(1, num_student - 1))
    distance = distances(seed, num_student, used + remainder)
    whole = mgd.assign(distance, groups)
    dropped = mgd.assign(distance[:, :used], groups)
    assert cost(distance, whole) <= cost(distance, dropped) + 1e-9


def test_the_best_channel_is_found_among_those_the_original_dropped():
    distance = torch.full((2, 5), 3.0)
    distance[0, 4] = 0.0
    assert 4 in mgd.assign(distance)[:, 0]


@pytest.mark.parametrize("solver", EXACT)
def test_near_ties_are_told_apart(solver):
    distance = torch.full((3, 3), 2.0)
    distance[0, 2] = distance[1, 0] = distance[2, 1] = 2.0 - 2e-7
    assert mgd.assign(distance, solver=solver).tolist() == [[2, 0, 1]]


@pytest.mark.parametrize("solver", EXACT)
def test_negative_and_equal_distances_are_no_problem(solver):
    assert mgd.assign(torch.zeros(2, 4), solver=solver).flatten().unique().tolist() == [0, 1, 2, 3]
    distance = torch.tensor([[-1.0, 0.0], [-5.0, 0.0]])
    assert mgd.assign(distance, solver=solver).tolist() == [[1, 0]]


def test_a_wider_student_shares_teacher_channels_evenly():
    matching = mgd.assign(distances(0, 7, 3))
    assert matching.shape == (1, 7)
    assert sorted(matching.flatten().bincount().tolist()) in ([1, 3, 3], [2, 2, 3])


def test_more_groups_than_fit_are_refused():
    with pytest.raises(ValueError, match=r"`groups` \(=3\) must be from 1 to 2: 4 student"):
        mgd.assign(distances(0, 4, 8), groups=3)


@pytest.mark.parametrize("groups", [0, -1])
def test_fewer_than_one_group_is_refused(groups):
    with pytest.raises(ValueError, match="must be from 1 to 2"):
        mgd.assign(distances(0, 4, 8), groups=groups)


def test_a_wider_student_has_one_group_only():
    with pytest.raises(ValueError, match="must be from 1 to 1"):
        mgd.assign(distances(0, 5, 3), groups=2)


@pytest.mark.parametrize("solver", mgd.SOLVERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_distances_that_are_not_finite_are_counted_in_the_error(value, solver):
    distance = distances(0, 2, 4)
    distance[1, 2:] = value
    with pytest.raises(ValueError, match="2 of 8 distances are NaN or infinite"):
        mgd.assign(distance, solver=solver)


def test_an_unknown_solver_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown solver 'lapjv'; choose one of scipy, ortools"):
        mgd.assign(distances(0, 2, 4), solver="lapjv")


def test_missing_ortools_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "ortools"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ortools", None)
    with pytest.raises(ValueError, match=r"pip install 'matching-guided-distillation\[ortools\]'"):
        mgd.assign(distances(0, 2, 4), solver="ortools")


def test_random_matching_follows_the_seed_and_not_the_distances():
    draws = []
    for seed, distance in (
        (1, distances(0, 4, 9)),
        (1, distances(5, 4, 9)),
        (2, distances(0, 4, 9)),
    ):
        torch.manual_seed(seed)
        draws.append(mgd.assign(distance, solver="random").tolist())
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]


def test_random_matching_reaches_every_teacher_channel():
    drawn = torch.stack([mgd.assign(torch.zeros(3, 7), solver="random") for _ in range(200)])
    share = drawn.flatten().bincount(minlength=7) / drawn.numel()
    assert (share - 1 / 7).abs().max() < 0.05


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_half_and_double_precision_distances(dtype):
    distance = distances(0, 3, 7).to(dtype)
    assert torch.equal(mgd.assign(distance), mgd.assign(distance.double().float()))


def test_a_distance_with_gradient_is_taken_as_a_constant():
    assert mgd.assign(distances(0, 3, 7).requires_grad_()).shape == (2, 3)

"""ChannelMatcher: statistics over batches, and everything it knows in buffers."""

import pytest
import torch
from torch import nn

import mgd

SMALL = (4, 10)  # S and T: two teacher channels each, two left over


def make(name="amp", channels=SMALL, solver="scipy"):
    return mgd.ChannelMatcher(*channels, mgd.REDUCERS[name], solver)


def batch(seed, num_images=3, channels=SMALL):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(num_images, width, 5, 5, generator=generator) for width in channels)


def observed(matcher, *batches):
    matcher.reset()
    for student, teacher in batches:
        matcher.update(student, teacher)
    return matcher


def test_the_split_into_batches_means_nothing():
    one, two = batch(1), batch(2, num_images=1)
    whole = [torch.cat(both) for both in zip(one, two, strict=True)]
    apart, together = observed(make(), one, two), observed(make(), whole)
    torch.testing.assert_close(apart.compute(), together.compute())
    torch.testing.assert_close(together.compute(), mgd.channel_distance(*whole))


def test_reset_forgets_the_statistics_and_keeps_the_matching():
    matcher = observed(make(), batch(1))
    matching = matcher.solve().clone()
    matcher.reset()
    assert not any(statistic.any() for statistic in matcher.statistics())
    assert torch.equal(matcher.matching, matching)


def test_the_empty_state_is_an_error():
    with pytest.raises(RuntimeError, match="no images since reset"):
        make().solve()


def test_solve_is_the_assignment_of_the_mean_distance():
    matcher = observed(make(), batch(1), batch(2))
    assert torch.equal(matcher.solve(), mgd.assign(matcher.compute()))
    assert torch.equal(matcher.matching, mgd.assign(matcher.compute()))


def test_cost_is_the_mean_distance_of_the_pairs():
    matcher = observed(make(), batch(1))
    matcher.solve()
    pairs = [matcher.compute()[s, t] for group in matcher.matching for s, t in enumerate(group)]
    assert matcher.cost() == pytest.approx(float(sum(pairs)) / 8)
    assert 0 <= matcher.cost() <= 4


@pytest.mark.parametrize(
    ("name", "channels", "groups"),
    [("sm", (4, 10), 1), ("amp", (4, 10), 2), ("rd", (3, 3), 1), ("sp", (7, 3), 1)],
)
def test_the_reducer_decides_the_number_of_groups(name, channels, groups):
    matcher = make(name, channels)
    assert matcher.matching.shape == (groups, channels[0])
    assert observed(matcher, batch(1, channels=channels)).solve().shape == (groups, channels[0])


@pytest.mark.parametrize("channels", [(4, 10), (5, 5), (7, 3)])
def test_the_first_matching_is_usable(channels):
    matching = make(channels=channels).matching
    uses = matching.flatten().bincount(minlength=channels[1])
    assert matching.max() < channels[1]
    assert uses.max() <= -(-channels[0] // channels[1])


def test_select_reduces_the_matched_channels():
    matcher = make()
    student, teacher = batch(1)
    observed(matcher, (student, teacher)).solve()
    grouped = torch.stack([teacher[:, group] for group in matcher.matching], dim=1)
    assert torch.equal(matcher.select(teacher), matcher.reducer.features(grouped))


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_select_in_blocks_equals_that_of_the_whole(order):
    matcher = mgd.ChannelMatcher(3, 7, mgd.REDUCERS["amp"])
    teacher = torch.randn(5, 7, 220, 220).contiguous(memory_format=order)  # an image a block
    wanted = matcher.reducer.features(teacher[:, matcher.matching])
    found = matcher.select(teacher)
    assert torch.equal(found, wanted)
    assert found.is_contiguous(memory_format=order)


def test_everything_survives_a_state_dict():
    matcher = observed(make(), batch(1))
    matcher.solve()
    twin = make()
    twin.load_state_dict(matcher.state_dict())
    assert torch.equal(twin.matching, matcher.matching)
    assert twin.cost() == matcher.cost()


def test_there_is_nothing_to_train():
    assert list(make().parameters()) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_statistics_stay_float32_when_the_model_moves(dtype):
    # bfloat16 cannot count beyond 256, and float16 distances sum up to infinity.
    matcher = nn.Sequential(make()).to(dtype)[0]
    exact = make()
    for seed in range(60):
        student, teacher = batch(seed, num_images=16)
        matcher.update(student.to(dtype), teacher.to(dtype))
        exact.update(student.to(dtype), teacher.to(dtype))
    assert matcher.image_count == 960
    assert torch.equal(matcher.compute(), exact.compute())
    assert matcher.matching.dtype == torch.long


def test_an_update_keeps_no_autograd_graph():
    matcher = make()
    student, teacher = batch(1)
    matcher.update(student.requires_grad_(), teacher)
    assert not any(statistic.requires_grad for statistic in matcher.statistics())


def test_nan_features_end_in_an_error_and_the_old_matching():
    student, teacher = batch(1)
    student[0, 0, 0, 0] = float("nan")
    matcher = observed(make(), (student, teacher))
    before = matcher.matching.clone()
    with pytest.raises(ValueError, match="10 of 40 distances are NaN or infinite"):
        matcher.solve()
    assert torch.equal(matcher.matching, before)

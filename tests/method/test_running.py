"""Running statistics: the split into batches means nothing, and sums stay float32."""

import pytest
import torch
from torch import nn

import reference
from mgd.method.running import RunningMargin


def batch(seed, num_images=3):
    return torch.randn(num_images, 6, 5, 5, generator=torch.Generator().manual_seed(seed))


def observed(*batches):
    margin = RunningMargin(6)
    for features in batches:
        margin.update(features)
    return margin


def test_the_margin_is_that_of_all_features_seen():
    one, two = batch(1), batch(2, num_images=1)
    slow = reference.margin_from_features(torch.cat([one, two]).double().numpy())
    torch.testing.assert_close(observed(one, two).compute(), torch.from_numpy(slow).float())


def test_reset_forgets_and_the_empty_state_is_an_error():
    margin = observed(batch(1))
    margin.reset()
    assert not any(statistic.any() for statistic in margin.statistics())
    with pytest.raises(RuntimeError, match="RunningMargin: no images since reset"):
        margin.compute()


def test_everything_survives_a_state_dict():
    margin, twin = observed(batch(1)), RunningMargin(6)
    twin.load_state_dict(margin.state_dict())
    assert torch.equal(twin.compute(), margin.compute())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_sums_stay_float32_when_the_model_moves(dtype):
    moved = nn.Sequential(RunningMargin(6)).to(dtype)[0]
    for seed in range(60):
        moved.update(batch(seed, num_images=16).to(dtype))
    assert moved.image_count == 960
    assert all(statistic.dtype == torch.float32 for statistic in moved.statistics())

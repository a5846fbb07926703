"""Memory: blocks that cover a batch, and channels taken in the order they lie in."""

import pytest
import torch

from mgd.tensors.memory import memory_blocks, take_channels


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (7, 4, 300, 300), (300, 16, 32, 32), (0, 3, 4, 4)])
def test_blocks_cover_every_image_once(shape):
    images = torch.empty(shape)
    found = [index for block in memory_blocks(images) for index in range(shape[0])[block]]
    assert found == list(range(shape[0]))


def test_large_images_come_one_by_one_and_small_ones_together():
    assert len(memory_blocks(torch.empty(7, 4, 400, 400))) == 7
    assert len(memory_blocks(torch.empty(64, 16, 8, 8))) == 1


def test_another_device_gets_one_block():
    assert memory_blocks(torch.empty(64, 64, 64, 64, device="meta")) == [slice(None)]


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_channels_are_taken_in_the_order_they_lie_in(order):
    features = torch.randn(2, 6, 3, 5).contiguous(memory_format=order)
    channels = torch.tensor([5, 0, 3])
    taken = take_channels(features, channels)
    assert torch.equal(taken, features[:, channels])
    assert taken.is_contiguous(memory_format=order)


def test_channels_of_a_crop_are_taken():
    features = torch.randn(2, 6, 8, 8)[:, :, 1:5, ::2]
    assert torch.equal(take_channels(features, torch.tensor([4, 1])), features[:, [4, 1]])

"""A tapped model in threads, in DataParallel's replicas and under the compiler."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from inside_networks import IMAGES, Net, block_sum, tapped_at
from torch import Tensor, nn


def at_once(meeting_point, runs, inputs):
    """Runs in one thread each; both have reached `meeting_point` before either goes on."""
    together = threading.Barrier(len(runs), timeout=600)
    handle = meeting_point.register_forward_hook(lambda *_: [together.wait()].clear())
    with ThreadPoolExecutor(len(runs)) as pool:
        outputs = list(pool.map(lambda run, x: run(x), runs, inputs))
    handle.remove()
    return outputs


def test_threads_never_mix():
    net = Net().eval()
    tapped = tapped_at(net, "stem", "block.relu")
    shards = IMAGES.chunk(2)
    for _ in range(10):
        outputs = at_once(net.block, [tapped, tapped], shards)
        for ((stem, relu), _), shard in zip(outputs, shards, strict=True):
            torch.testing.assert_close(stem, net.stem(shard))
            torch.testing.assert_close(relu, block_sum(net, shard))
    assert tapped._frames == {}


def replicate(module: nn.Module) -> nn.Module:
    """Copies as DataParallel does, on one device: shallow, with hook dictionaries shared."""
    replica = module._replicate_for_data_parallel()
    for name, child in module.named_children():
        replica._modules[name] = replicate(child)
    for name, parameter in module._parameters.items():
        value: Tensor | None = None if parameter is None else parameter.detach() * 1
        setattr(replica, name, value)
    return replica


def test_data_parallel_replicas_read_their_own_features():
    net = Net()
    tapped = tapped_at(net, "block.relu")
    replicas = [replicate(tapped) for _ in range(2)]
    shards = IMAGES.chunk(2)
    outputs = at_once(net.block, replicas, shards)
    for ((features,), logits), shard in zip(outputs, shards, strict=True):
        torch.testing.assert_close(features, block_sum(net, shard))
        torch.testing.assert_close(logits, net(shard))


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_forward_gives_the_same_features():
    net = Net()
    tapped = tapped_at(net, "block.relu", "stem")
    expected = tapped(IMAGES)
    compiled = torch.compile(tapped, backend="eager")
    for images, (features, logits) in ((IMAGES, expected), (-IMAGES, tapped(-IMAGES))):
        compiled_features, compiled_logits = compiled(images)
        for tapped_map, expected_map in zip(compiled_features, features, strict=True):
            torch.testing.assert_close(tapped_map, expected_map)
        torch.testing.assert_close(compiled_logits, logits)
    torch._dynamo.reset()

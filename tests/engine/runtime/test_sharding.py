"""A sharded teacher gives what the whole one gives; here over a group of one process.

What needs two is in tests/engine/loop/test_sharded_runs.py.
"""

import gc
import weakref
from contextlib import nullcontext

import pytest
import torch
import torch.distributed as dist
from torch import nn

import mgd
from inside.inside_networks import Cnn, images, swin, vit
from mgd import ranks
from mgd.engine.runtime.sharding import held_bytes, shard_teacher
from mgd.engine.tasks.folding import fold_batch_norms
from mgd.inside import evaluating

CPU = torch.device("cpu")


@pytest.fixture
def one_rank(free_port):
    dist.init_process_group("gloo", f"tcp://localhost:{free_port}", rank=0, world_size=1)
    yield
    ranks.leave()


class Scaled(nn.Module):
    """A network with a weight that is a single number, which cannot be cut."""

    def __init__(self):
        super().__init__()
        self.inner, self.scale = Cnn(), nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return self.inner(x) * self.scale


def guided(distiller, example):
    """What the teacher gives for a batch: targets, features and output."""
    guidance = distiller.guide(example)
    return [getattr(kept, "maps", kept) for kept in guidance.kept], guidance.output


@pytest.mark.parametrize("network", [Cnn, vit, swin, Scaled])
@pytest.mark.usefixtures("one_rank")
def test_targets_and_outputs_of_a_sharded_teacher_are_those_of_the_whole(network):
    teacher, example = network(), images()
    distiller = mgd.Distiller(teacher, Cnn(), example=example)
    fold_batch_norms(teacher, example, [pair.teacher for pair in distiller.points.pairs])
    mgd.update_matching(distiller, [example])
    whole, weights = guided(distiller, example), list(teacher.parameters())
    margins = [point.margin.clone() for point in distiller.points]
    shard_teacher(distiller.frozen_teacher, CPU)
    assert ranks.is_sharded(teacher)
    torch.testing.assert_close(guided(distiller, example), whole, rtol=0, atol=0)
    distiller.update_margins()
    torch.testing.assert_close([p.margin for p in distiller.points], margins, rtol=0, atol=0)
    reports = mgd.update_matching(distiller, [example])
    assert all(report.churn == 0 for report in reports)
    assert len(weights) == len(list(teacher.parameters())) + (network is Scaled)


@pytest.mark.parametrize("context", ["nothing", "inference", "bf16"])
@pytest.mark.usefixtures("one_rank")
def test_a_sharded_teacher_runs_in_every_mode_and_in_turn(context):
    teacher, example = Cnn(), images()
    distiller = mgd.Distiller(teacher, Cnn(), example=example)
    contexts = {
        "nothing": nullcontext,
        "inference": torch.inference_mode,
        "bf16": lambda: torch.autocast("cpu", torch.bfloat16),
    }
    with evaluating(teacher), torch.no_grad(), contexts[context]():
        expected = teacher(example)
    shard_teacher(distiller.frozen_teacher, CPU)
    for _ in range(2):
        with contexts[context]():
            assert torch.equal(teacher(example), expected)
        distiller.guide(example)


@pytest.mark.usefixtures("one_rank")
def test_weights_in_the_channels_last_format_are_sharded_too():
    teacher, example = Cnn(), images()
    distiller = mgd.Distiller(teacher, Cnn(), example=example)
    expected = guided(distiller, example)
    teacher.to(memory_format=torch.channels_last)
    shard_teacher(distiller.frozen_teacher, CPU)
    found = guided(distiller, example.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected)


@pytest.mark.usefixtures("one_rank")
def test_nothing_keeps_the_weights_of_before():
    """Neither those that were folded nor those that were cut: they would be held twice."""
    teacher, example = Cnn(), images()
    given = [weakref.ref(weight) for weight in teacher.parameters() if weight.dim() == 4]
    with mgd.Distiller(teacher, Cnn(), example=example) as distiller:
        assert fold_batch_norms(teacher, example)
        folded = [weakref.ref(weight) for weight in teacher.parameters()]
        shard_teacher(distiller.frozen_teacher, CPU)
        gc.collect()
        assert not any(find() is not None for find in [*given, *folded])
        here, whole = held_bytes(teacher)
        assert here == whole > 0

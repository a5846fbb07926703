"""Ranks: one process needs no group, and several agree."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mgd import ranks


@pytest.fixture(params=["no group", "no torch.distributed"])
def alone(request, monkeypatch):
    if request.param == "no torch.distributed":
        monkeypatch.setattr(dist, "is_available", lambda: False)
        monkeypatch.delattr(dist, "is_initialized")  # as torch is where it was built without


@pytest.mark.usefixtures("alone")
def test_one_process_agrees_with_itself():
    tensor = torch.tensor([1.0, 2.0])
    for agree in (ranks.sum_over_ranks, ranks.sum_on_first, ranks.share):
        agree([tensor])
        assert tensor.tolist() == [1, 2]
    assert (ranks.rank(), ranks.num_ranks(), ranks.are_several()) == (0, 1, False)
    assert [found.tolist() for found in ranks.gather(tensor)] == [[1, 2]]
    assert ranks.gather_objects({"a": 1}) == [{"a": 1}]
    assert ranks.sum_with_gradient(tensor) is tensor
    assert list(ranks.keep_step([1, 2], lambda: pytest.fail("has nobody to wait for"))) == [1, 2]
    assert ranks.whole(tensor) is ranks.held_here(tensor) is tensor
    assert not ranks.is_sharded(torch.nn.Linear(2, 2))
    ranks.leave()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(("number", "first"), [(None, True), ("0", True), ("3", False)])
def test_before_there_is_a_group_torchrun_says_who_is_first(monkeypatch, number, first):
    monkeypatch.delenv("RANK", raising=False)
    if number is not None:
        monkeypatch.setenv("RANK", number)
    assert ranks.is_first() is first


def work(rank, folder):
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    mine = torch.tensor([1.0, 10.0]) * (rank + 1)
    total, count, moved, shared = mine.clone(), torch.tensor(rank + 1), mine.clone(), mine.clone()
    ranks.sum_over_ranks([total, count])  # of two types
    ranks.sum_on_first([moved])
    ranks.share([shared])
    leaf = mine.clone().requires_grad_()
    (ranks.sum_with_gradient(leaf) * (rank + 1)).sum().backward()
    found = {"total": total, "count": count, "moved": moved, "shared": shared, "grad": leaf.grad}
    found = {name: value.tolist() for name, value in found.items()}
    found["gathered"] = [value.tolist() for value in ranks.gather(mine)]
    found["objects"] = ranks.gather_objects(f"rank {rank}")
    idle = []  # rank 0 has three items, and rank 1 has one
    turns = ranks.keep_step(range(3 - 2 * rank), lambda: idle.append(ranks.gather_objects("idle")))
    found["turns"] = [(turn, ranks.gather_objects(turn)) for turn in turns], idle
    found["who"] = (ranks.rank(), ranks.num_ranks(), ranks.is_first())
    torch.save(found, f"{folder}/{rank}.pt")
    ranks.leave()


def test_two_processes_agree(tmp_path):
    mp.start_processes(work, (str(tmp_path),), nprocs=2, start_method="spawn")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for found in (first, second):
        assert (found["total"], found["count"], found["shared"]) == ([3, 30], 3, [1, 10])
        assert found["gathered"] == [[1, 10], [2, 20]]
        assert found["objects"] == ["rank 0", "rank 1"]
        assert found["grad"] == [3, 3]  # one from rank 0, two from rank 1
    assert (first["moved"], second["moved"]) == ([3, 30], [0, 0])
    assert (first["who"], second["who"]) == ((0, 2, True), (1, 2, False))
    shared = [[0, 0], [1, "idle"], [2, "idle"]]
    assert first["turns"] == (list(enumerate(shared)), [])
    assert second["turns"] == ([(0, [0, 0])], shared[1:])

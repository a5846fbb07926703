"""Two processes with gloo: every integration trains as DDP around a plain loop does."""

import guided_ranks
import pytest
import torch

import forking


@pytest.mark.parametrize("name", ["lightning", "accelerate", "timm", "transformers"])
def test_two_processes_train_as_in_a_loop_of_ones_own(name, tmp_path, free_port):
    pytest.importorskip("timm.task" if name == "timm" else name)
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": str(free_port), "TORCHELASTIC_RUN_ID": "a", "GROUP_RANK": "0"}
    started = [
        forking.start(
            guided_ranks.work, tmp_path, name, number, RANK=f"{number}", LOCAL_RANK=f"{number}",
            **shared,
        )
        for number in range(2)
    ]  # fmt: skip
    for process in started:
        assert forking.end_of(process, tmp_path) == 0, forking.printed(tmp_path)
    found = [torch.load(tmp_path / f"{number}.pt") for number in range(2)]
    for of_rank in found:
        assert len(of_rank["losses"]) == 10
        assert of_rank["losses"] == pytest.approx(of_rank["expected"], abs=1e-5)
        torch.testing.assert_close(of_rank["theirs"], of_rank["plain"], atol=1e-5, rtol=0)
    assert found[0]["losses"] != found[1]["losses"]  # each saw images of its own
    assert all(map(torch.equal, found[0]["theirs"], found[1]["theirs"]))

"""Several processes: the same numbers as one, every image once, and no hang when one dies."""

from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

import forking
from faults import killing
from mgd import ranks
from mgd.engine.measure import evaluate_networks
from mgd.engine.run import train
from mgd.engine.runtime.devices import launch
from mgd.engine.runtime.sync_bn import synchronize
from mgd.errors import InputError, RunError, TapError

MAIN = Path(__file__).parents[3] / "main_mgd.py"
TIMES = {"images_per_s", "data_wait", "seconds"}


def rows(outcome):
    return [
        {name: float(value) for name, value in row.items() if name not in TIMES}
        for row in killing.rows_of(outcome.folder)
    ]


def test_two_processes_train_as_one(fast_distillation, free_port, forked_ranks):
    """With synchronised BatchNorm the sum over two ranks is the batch of one, to float rounding.

    Anything else (an unequal share, a wrong average, a stale buffer, another matching) would show
    in the losses and accuracies of the two epochs. 36 is rounded in each class, to 39 images: the
    last step has 9, which two ranks cannot halve.
    """
    config = fast_distillation.replace(sync_bn=1, train_images=36)
    one = train(config.replace(experiment="one"))
    two = train(
        config.replace(experiment="two", devices=2, dist_url=f"tcp://localhost:{free_port}")
    )
    for single, double in zip(rows(one), rows(two), strict=True):
        assert single == pytest.approx(double, rel=1e-5)
    assert one.test.images == two.test.images == 600
    assert one.test.per_class == two.test.per_class


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_over_one_process_is_torchs(free_port, momentum):
    dist.init_process_group("gloo", f"tcp://localhost:{free_port}", rank=0, world_size=1)
    try:
        stock = nn.BatchNorm2d(4, momentum=momentum)
        ours = synchronize(nn.Sequential(nn.BatchNorm2d(4, momentum=momentum)))
        for _ in range(3):
            images = torch.randn(5, 4, 3, 3)
            torch.testing.assert_close(ours(images), stock(images))
    finally:
        ranks.leave()
    state = {name.removeprefix("0."): value for name, value in ours.state_dict().items()}
    torch.testing.assert_close(state, dict(stock.state_dict()))


def test_evaluation_counts_every_image_once(fast_run, free_port, forked_ranks):
    weights = train(fast_run.replace(epochs=1)).folder / "student.safetensors"
    config = fast_run.replace(evaluate=True, student_resume=str(weights), batch_size=7)
    (one, _) = evaluate_networks(config)
    (three, _) = evaluate_networks(
        config.replace(devices=3, dist_url=f"tcp://localhost:{free_port}")
    )
    assert three["student"].images == one["student"].images == 300
    assert three["student"].per_class == one["student"].per_class
    assert three["student"].loss == pytest.approx(one["student"].loss, rel=1e-5)


WORDS = [
    *("digits", "--size", "8", "--arch", "cifar_resnet8_x0_25", "--teacher", "cifar_resnet8_x0_5"),
    *("--use-pretrained", "0", "--train-images", "40", "-b", "20", "-j", "0"),
]


def break_down(fabric, config, error):
    raise error("one line of reason")


@pytest.mark.parametrize(("raised", "told"), [(TapError, InputError), (RunError, RunError)])
def test_an_error_of_a_spawned_rank_is_told_as_in_one_process(
    raised, told, fast_run, free_port, forked_ranks
):
    config = fast_run.replace(parallel="ddp", dist_url=f"tcp://localhost:{free_port}")
    with pytest.raises(told, match=r"^one line of reason$"):
        launch(config, partial(break_down, error=raised))


@pytest.mark.parametrize("more", [[], ["--parallel", "fsdp"]])
def test_two_torchrun_nodes(more, tmp_path, free_port):
    """Two agents on loopback are two nodes of one process each; --batch-size is a node's."""
    nodes = []
    for node in range(2):
        words = [
            *("--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(node)),
            *("--master-addr", "localhost", "--master-port", str(free_port)),
            *(str(MAIN), *WORDS, *more, "--epochs", "1", "--output", str(tmp_path / "runs")),
        ]
        folder = tmp_path / f"node {node}"
        folder.mkdir()
        nodes.append((forking.start(torchrun, folder, words), folder))
    codes = [forking.end_of(*node) for node in nodes]
    outputs = [forking.printed(folder) for _, folder in nodes]
    assert codes == [0, 0], outputs
    (folder,) = (tmp_path / "runs").iterdir()
    assert len(killing.rows_of(folder)) == 1
    assert "best epoch 1" in outputs[0]
    assert "best epoch 1" not in outputs[1]


def torchrun(words):
    from torch.distributed.run import main

    main(words)


def test_a_killed_rank_ends_the_job_and_a_restart_goes_on(tmp_path, free_port):
    """Rank 1 dies before the second of the two steps of the third epoch."""
    words = [
        *("distill", *WORDS, "--devices", "2", "--experiment", "run", "--tensorboard", "0"),
        *("--dist-url", f"tcp://localhost:{free_port}", "--resume", "auto", "--epochs", "4"),
    ]
    process = killing.start(words, tmp_path, killing.Place("step", steps=5), rank=1)
    assert forking.end_of(process, tmp_path) == 1
    last = forking.printed(tmp_path).splitlines()[-1]
    assert "a process of the run died" in last
    assert "SIGKILL" in last
    summary = tmp_path / "runs" / "run"
    assert [row["epoch"] for row in killing.rows_of(summary)] == ["0", "1"]
    killing.finish(words, tmp_path)
    assert "going on with 'runs/run' at epoch 2, step 0" in forking.printed(tmp_path)
    assert [row["epoch"] for row in killing.rows_of(summary)] == ["0", "1", "2", "3"]

"""Several processes: the same numbers as one, every image once, and no hang when one dies."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from mgd.engine.loop.runlog import read_summary
from mgd.engine.run import evaluate_networks, train
from mgd.engine.runtime.devices import launch, leave_process_group
from mgd.engine.runtime.sync_bn import synchronize
from mgd.errors import InputError, RunError, TapError

MAIN = Path(__file__).parents[2] / "main_mgd.py"
TIMES = {"images_per_s", "data_wait", "seconds"}


def rows(outcome):
    return [
        {name: float(value) for name, value in row.items() if name not in TIMES}
        for row in read_summary(outcome.folder)
    ]


def test_two_processes_train_as_one(fast_distillation, free_port):
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
        leave_process_group()
    state = {name.removeprefix("0."): value for name, value in ours.state_dict().items()}
    torch.testing.assert_close(state, dict(stock.state_dict()))


def test_evaluation_counts_every_image_once(fast_run, free_port):
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


def start(command, folder, **environment):
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def break_down(fabric, config, error):
    raise error("one line of reason")


@pytest.mark.parametrize(("raised", "told"), [(TapError, InputError), (RunError, RunError)])
def test_an_error_of_a_spawned_rank_is_told_as_in_one_process(raised, told, fast_run, free_port):
    config = fast_run.replace(parallel="ddp", dist_url=f"tcp://localhost:{free_port}")
    with pytest.raises(told, match=r"^one line of reason$"):
        launch(config, partial(break_down, error=raised))


def test_two_torchrun_nodes(tmp_path, free_port):
    """Two agents on loopback are two nodes of one process each; --batch-size is a node's."""
    nodes = [
        start(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"),
                *("--nproc-per-node", "1", "--node-rank", str(node)),
                *("--master-addr", "localhost", "--master-port", str(free_port)),
                *(str(MAIN), *WORDS, "--epochs", "1"),
            ],
            tmp_path,
        )
        for node in range(2)
    ]
    outputs = [node.communicate(timeout=240)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    (folder,) = (tmp_path / "runs").iterdir()
    assert len(read_summary(folder)) == 1
    assert "best epoch 1" in outputs[0]
    assert "best epoch 1" not in outputs[1]


def test_a_killed_rank_ends_the_job_and_a_restart_goes_on(tmp_path, free_port):
    command = [
        *(sys.executable, str(MAIN), *WORDS, "--devices", "2", "--experiment", "run"),
        *("--dist-url", f"tcp://localhost:{free_port}", "--resume", "auto", "--epochs"),
    ]
    job = start([*command, "1000"], tmp_path)
    summary = tmp_path / "runs" / "run" / "summary.csv"
    try:
        deadline = time.monotonic() + 180
        while not summary.exists() or len(summary.read_text().splitlines()) < 3:
            assert job.poll() is None, job.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        os.kill(ranks_of(job.pid)[1], signal.SIGKILL)
        output, _ = job.communicate(timeout=60)
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
    assert job.returncode == 1
    assert "a process of the run died" in output.splitlines()[-1]
    assert "SIGKILL" in output.splitlines()[-1]
    epochs = len(read_summary(summary.parent)) + 1
    again = start([*command, str(epochs)], tmp_path)
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output
    assert f"going on with 'runs/run' at epoch {epochs - 1}, step 0" in output
    assert [row["epoch"] for row in read_summary(summary.parent)] == [*map(str, range(epochs))]


def ranks_of(parent):
    """Returns the spawned processes, in the order of their ranks."""
    listing = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(parent)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return sorted(int(line.split()[0]) for line in listing.splitlines() if "spawn_main" in line)

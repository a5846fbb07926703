"""--parallel fsdp: two ranks that share out the teacher train as two that hold it twice.

The validation images and those of the matching are such that the ranks have different numbers of
batches, and the gallery is rank 0's alone: the teacher's forward needs both ranks even then.
"""

from pathlib import Path

import pytest
import torch
from torch import nn

from engine.loop.test_trainer import matchings, rows_of
from engine.loop.test_two_ranks import CutError, Heard, cut, ends_of, of_all_ranks, on_two_ranks
from mgd import ranks
from mgd.engine.loop.checkpoint import load_checkpoint
from mgd.engine.loop.runlog import Reporter
from mgd.engine.loop.trainer import Trainer
from mgd.engine.loop.work import run_work
from mgd.engine.options.config import RunConfig
from mgd.engine.run import ClassifierWork, train
from mgd.engine.runtime.sharding import shard_teacher
from mgd.errors import InputError
from mgd.method.teacher import FrozenTeacher
from mgd.models import create_model
from mgd.runfolder import read_gallery


@pytest.fixture
def two_ranks(image_folder, tmp_path, free_port, forked_ranks):
    (image_folder / "valid" / "two" / "9.png").unlink()  # 11 are left: 6 and 5
    return RunConfig().replace(
        data=str(image_folder), size=8, arch="cifar_resnet8_x0_25", batch_size=5, epochs=2,
        teacher="cifar_resnet8_x0_5", use_pretrained=0, distiller="mgd", mgd_with_kd=1,
        mgd_images=11, workers=0, tensorboard=0, output=str(tmp_path / "runs"), devices=2,
        parallel="fsdp", dist_url=f"tcp://localhost:{free_port}", checkpoint_every=1,
    )  # fmt: skip


def shares_of(patch):
    """Has a run leave what this rank holds of its teacher, in parts of the whole."""
    shares = []
    fit = Trainer.fit

    def spy(self, *arguments):
        fit(self, *arguments)
        network = self.task.distiller.teacher
        here = sum(ranks.held_here(weight).numel() for weight in network.parameters())
        shares.append(here / sum(weight.numel() for weight in network.parameters()))

    patch.setattr(Trainer, "fit", spy)
    return shares


def runs(fabric, config):
    """Trains with a teacher on each rank and with a shared one, at once and in two goes."""
    heard, nothing = Heard(), lambda patch: None
    copied = config.replace(parallel="ddp")
    found = {"ddp": ends_of(fabric, copied.replace(experiment="ddp"), nothing)}
    with pytest.MonkeyPatch.context() as patch:
        shares = shares_of(patch)
        found["fsdp"] = ends_of(fabric, config.replace(experiment="fsdp"), nothing, heard)
    for name, first, then in (("same", config, config), ("other", config, copied)):
        with pytest.raises(CutError):
            ends_of(fabric, first.replace(experiment=name), cut)
        fabric.barrier()  # rank 0 has left the folder
        again = then.replace(experiment=name, resume="auto")
        found[name] = ends_of(fabric, again, nothing)
    return found, of_all_ranks(shares), heard.messages


def test_a_shared_teacher_teaches_as_a_copied_one_also_when_resumed(two_ranks):
    found, shares, messages = on_two_ranks(two_ranks, runs)
    for name in ("fsdp", "same", "other"):
        assert found[name] == found["ddp"], name
    assert shares == [[pytest.approx(0.5, abs=0.02)]] * 2
    (told,) = (text for text in messages if "sharded" in text)
    assert told.startswith("the teacher is sharded over 2 processes: this one holds ")
    copied = Path(two_ranks.output.output) / "ddp"
    for name in ("fsdp", "same", "other"):
        folder = copied.with_name(name)
        assert rows_of(folder) == rows_of(copied)
        assert torch.equal(matchings(folder), matchings(copied))
        for file in ("student.safetensors", "gallery.npz"):
            assert (folder / file).read_bytes() == (copied / file).read_bytes()
        assert read_gallery(folder).is_whole
    saved, expected = (load_checkpoint(f / "last.ckpt") for f in (copied.with_name("fsdp"), copied))
    assert saved.keys() == expected.keys()
    assert all(type(value) is torch.Tensor for value in saved["distiller"].values())
    assert saved["distiller"].keys() == expected["distiller"].keys()


def test_a_run_goes_on_with_one_process(two_ranks):
    folder = train(two_ranks.replace(experiment="run", epochs=1)).folder
    alone = two_ranks.replace(experiment="run", resume="auto", devices=0, parallel="auto")
    train(alone)
    assert len(rows_of(folder)) == 2


def halves(fabric, config):
    """Trains in bf16, without labels, with both kinds of teacher."""
    for parallel in ("ddp", "fsdp"):
        one = config.replace(experiment=parallel, parallel=parallel)
        run_work(fabric, one, make=ClassifierWork, reporter=Reporter())
        fabric.barrier()
    return


def test_precision_and_label_free_runs_are_those_of_a_copied_teacher(two_ranks, tmp_path):
    teacher = train(
        two_ranks.replace(
            arch="cifar_resnet8_x0_5", distiller="none", parallel="auto", devices=0, epochs=1,
            teacher="", mgd_with_kd=None, output=str(tmp_path / "teacher"),
        )
    ).folder  # fmt: skip
    config = two_ranks.replace(
        teacher_resume=str(teacher), precision="bf16", label_free=True, epochs=1, holdout=0.3
    )
    on_two_ranks(config, halves)
    one, other = (Path(two_ranks.output.output) / name for name in ("ddp", "fsdp"))
    assert rows_of(one) == rows_of(other)
    assert (one / "student.safetensors").read_bytes() == (
        other / "student.safetensors"
    ).read_bytes()


def differ(fabric, config):
    torch.manual_seed(fabric.global_rank)
    teacher = FrozenTeacher(
        create_model("cifar_resnet8", 10), [], nn.Identity(), torch.zeros(1, 3, 8, 8)
    )
    with pytest.raises(InputError) as caught:
        shard_teacher(teacher, fabric.device)
    return of_all_ranks(str(caught.value))


def test_ranks_with_different_teachers_are_told(two_ranks):
    told, same = on_two_ranks(two_ranks, differ)
    assert told == same
    assert "the processes have different weights" in told

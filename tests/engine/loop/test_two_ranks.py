"""What one rank alone sees, all ranks act upon; each test is one job of two processes."""

import json
import logging
import math
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import mgd
from engine.loop.test_trainer import matchings, rows_of
from engine.loop.test_watch import STEP, no_number_in_one_image, spoil, without
from forking import PATIENCE
from mgd.data import load_splits
from mgd.data.check import drop_bad_images
from mgd.engine.loop import keeping
from mgd.engine.loop.checkpoint import checksum, load_checkpoint
from mgd.engine.loop.pipeline import cut_splits
from mgd.engine.loop.runlog import Reporter
from mgd.engine.loop.trainer import Trainer
from mgd.engine.loop.work import run_work
from mgd.engine.run import ClassifierWork, train
from mgd.engine.runtime.devices import launch
from mgd.engine.tasks import kept_teacher
from mgd.errors import InputError
from mgd.runfolder import read_gallery


class Heard(Reporter):
    def __init__(self):
        self.messages = []

    def message(self, text):
        self.messages.append(text)


class CutError(Exception):
    pass


def cut(patch, number=6):
    """Ends a run in its step of this number."""
    steps = []

    def step(self, batches, size, labelled):
        steps.append(1)
        if len(steps) == number:
            raise CutError
        STEP(self, batches, size, labelled)

    patch.setattr(Trainer, "_step", step)


@pytest.fixture
def two_ranks(fast_distillation, free_port, forked_ranks):
    return fast_distillation.replace(devices=2, dist_url=f"tcp://localhost:{free_port}")


def on_two_ranks(config, job):
    return launch(config, partial(in_time, job=job))


def in_time(fabric, config, job):
    signal.alarm(PATIENCE)  # kills a rank that waits for another in vain, and that ends the job
    return job(fabric, config)


def of_all_ranks(value):
    """Returns every rank's value, in order; comes back only if no rank hangs or has left."""
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def stop(fabric, config):
    with pytest.MonkeyPatch.context() as patch:
        if fabric.global_rank == 1:
            spoil(patch, {5, 6}, no_number_in_one_image)
        with pytest.raises(InputError) as caught:
            run_work(fabric, config, make=ClassifierWork, reporter=Reporter())
    return of_all_ranks(str(caught.value))


def test_both_ranks_stop_where_one_has_a_bad_loss(two_ranks):
    """Found where a checkpoint would be written next."""
    config = two_ranks.replace(experiment="run", checkpoint_every=1, print_freq=100)
    told, same = on_two_ranks(config, stop)
    folder = Path(config.output.output) / "run"
    assert told == same
    assert told.startswith("the loss is not finite at epoch 1, step 2 (loss_ce ")
    assert "loss_mgd_1 nan, loss_mgd_2 " in told
    assert told.endswith(f"go on from '{folder / 'last.ckpt'}' with --resume auto")
    saved = load_checkpoint(folder / "last.ckpt")
    assert (saved["epoch"], saved["step"]) == (1, 1)
    for part in ("student", "distiller"):
        assert all(value.isfinite().all() for value in saved[part].values())
    assert len(rows_of(folder)) == 1


def ends_of(fabric, config, prepare=lambda patch: None, reporter=None, make=ClassifierWork):
    """Trains and returns the checksums of what each rank ends with."""
    ends = []
    fit = Trainer.fit

    def spy(self, *arguments):
        fit(self, *arguments)
        state = self.state.state_dict()
        names = ("student", "distiller", "optimizer", "scheduler", "best")
        ends.append({name: checksum(state[name]) for name in names})

    with pytest.MonkeyPatch.context() as patch:
        prepare(patch)
        patch.setattr(Trainer, "fit", spy)
        run_work(fabric, config, make=make, reporter=reporter or Reporter())
    return of_all_ranks(ends[0])


def skip(fabric, config):
    told = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    logging.getLogger("mgd").addHandler(handler)

    def leave_out(patch):
        patch.setattr(Trainer, "_step", without({1, 5}))

    def spoil_one(patch):
        if fabric.global_rank == 1:
            spoil(patch, {1, 5}, no_number_in_one_image)

    expected = ends_of(fabric, config.replace(experiment="left-out"), leave_out)
    found = ends_of(fabric, config.replace(experiment="run", on_nan="skip"), spoil_one)
    return [*expected, *found], of_all_ranks(told)


def test_both_ranks_skip_the_step_where_one_has_a_bad_loss(two_ranks):
    """Bit by bit as if the step were left out on both, and told once, by the rank that writes."""
    config = two_ranks.replace(lr_schedule="cosine")
    (expected, *others), (told, silent) = on_two_ranks(config, skip)
    assert others == [expected] * 3
    told = [line for line in told if line.startswith("skipped")]
    assert [line.partition(":")[0] for line in told] == [
        "skipped epoch 0, step 1",
        "skipped epoch 1, step 2",
    ]
    assert all("loss_mgd_1 nan, loss_mgd_2 " in line for line in told)
    assert silent == []
    rows = rows_of(Path(config.output.output) / "run")
    assert [row["skipped_steps"] for row in rows] == ["1", "1"]
    assert all(math.isfinite(float(row["loss"])) for row in rows)


def leave_bad_images_out(fabric, config):
    found = load_splits(config.data.data)
    splits, bad_images = cut_splits(config, found, found.classes)
    found = of_all_ranks((bad_images, splits.train.labels, splits.valid.labels))
    heard = Heard()
    ends = ends_of(fabric, config, lambda patch: None, heard)
    return found, ends, of_all_ranks(heard.messages)


def test_both_ranks_leave_the_same_images_out(two_ranks, image_folder):
    """Each rank reads half of the images; here each finds one that the other does not read."""
    for name in ("empty.png", "text.png"):
        (image_folder / "train" / "one" / name).write_bytes(b"" if name == "empty.png" else b"text")
    (image_folder / "valid" / "two" / "7.png").write_bytes(b"\x89PNG")
    config = two_ranks.replace(
        distiller="none", data=str(image_folder), train_images=0, skip_bad_images=True, epochs=1
    )
    found, ends, (messages, silent) = on_two_ranks(
        config.replace(experiment="run"), leave_bad_images_out
    )
    splits, faults = drop_bad_images(load_splits(str(image_folder)), workers=0)
    assert found == [(faults, list(splits.train.labels), list(splits.valid.labels))] * 2
    assert [len(faults), len(splits.train), len(splits.valid)] == [3, 18, 11]
    assert ends[0] == ends[1]
    folder = Path(config.output.output) / "run"
    line = f"3 unreadable images left out, listed in {folder / 'bad_images.txt'}"
    assert [[text for text in messages if "unreadable" in text], silent] == [[line], []]
    assert (folder / "bad_images.txt").read_text().splitlines() == faults
    assert len(rows_of(folder)) == 1


def track(fabric, config):
    """Trains at once, and in two goes: every rank stops inside the tracked steps of epoch 1."""

    whole = ends_of(fabric, config.replace(experiment="whole"), lambda patch: None)
    parted = config.replace(experiment="parted", checkpoint_every=1)
    with pytest.raises(CutError):
        ends_of(fabric, parted, cut)
    fabric.barrier()  # rank 0 has left the folder
    saved = load_checkpoint(Path(config.output.output) / "parted" / "last.ckpt")
    resumed = ends_of(fabric, parted.replace(resume="auto"), lambda patch: None)
    return whole, resumed, (saved["epoch"], saved["step"], images_of(saved))


def images_of(state):
    counts = {name: value for name, value in state["distiller"].items() if "image_count" in name}
    return {float(count) for count in counts.values()}


def update(fabric, config):
    """Trains at once, and in two goes; counts the batches whose gradients no rank waited for."""
    quiet = []
    no_sync = DistributedDataParallel.no_sync

    def count(patch):
        patch.setattr(
            DistributedDataParallel, "no_sync", lambda self: (quiet.append(1), no_sync(self))[1]
        )

    whole = ends_of(fabric, config.replace(experiment="whole"), count)
    parted = config.replace(experiment="parted", checkpoint_every=1)
    with pytest.raises(CutError):
        ends_of(fabric, parted, partial(cut, number=5))
    fabric.barrier()  # rank 0 has left the folder
    resumed = ends_of(fabric, parted.replace(resume="auto"), lambda patch: None)
    return whole, resumed, len(quiet)


def test_both_ranks_have_the_same_weights_and_mean_also_when_resumed(two_ranks):
    """An epoch is three steps, of two, two and one batches."""
    options = {"train_images": 50, "grad_accum_steps": 2, "model_ema": True, "clip_grad_norm": 1.0}
    options |= {"opt": "adamw", "learning_rate": 1e-3, "norm_weight_decay": 0.0}
    whole, resumed, quiet = on_two_ranks(two_ranks.replace(**options), update)
    assert [end["student"] for end in whole] == [whole[0]["student"]] * 2
    assert resumed == whole
    assert quiet == 4  # one batch of each of two steps, in two epochs


def test_online_tracking_sees_what_all_ranks_see(two_ranks):
    """With synchronised BatchNorm two ranks are one process, to float rounding.

    39 images are 3 steps of 13, so that the ranks' shares differ; the last 2 steps are tracked.
    """
    config = two_ranks.replace(
        sync_bn=1, train_images=36, batch_size=13, mgd_tracking="online", mgd_images=20, epochs=3
    )
    whole, resumed, saved = on_two_ranks(config, track)
    assert whole[0] == whole[1]
    assert resumed[0] == resumed[1]
    assert saved == (1, 2, {13.0})
    one = train(config.replace(experiment="one", devices=0)).folder
    expected = load_checkpoint(one / "last.ckpt")
    assert images_of(expected) == {26.0}
    for name in ("whole", "parted"):
        folder = one.with_name(name)
        state = load_checkpoint(folder / "last.ckpt")
        assert torch.equal(matchings(folder), matchings(one))
        assert images_of(state) == {26.0}
        for key, value in expected["distiller"].items():
            torch.testing.assert_close(state["distiller"][key], value, rtol=1e-4, atol=1e-5)
        points = json.loads((folder / "matching.json").read_text())["points"]
        assert [point["images"] for point in points] == [26, 26, 26]


def test_rank_0_alone_writes_the_gallery_that_one_process_writes(two_ranks):
    """Both begin with the same weights and the same matching."""
    folder = train(two_ranks.replace(experiment="two", epochs=1)).folder
    one = read_gallery(train(two_ranks.replace(experiment="one", epochs=1, devices=0)).folder)
    two = read_gallery(folder)
    assert two.is_whole
    for mine, yours in zip(one.channels, two.channels, strict=True):
        assert mine.channel == yours.channel
        assert abs(mine.before - yours.before).max() < 0.02


def rest(fabric, config):
    """Trains at once, and in two goes; counts how often each rank asked its teacher."""
    asked, step = [], Trainer._step

    def spy(distiller, images):
        asked.append(len(images))
        return mgd.method.answers.ask_teacher(distiller, images)

    def count(patch):
        patch.setattr(kept_teacher, "ask_teacher", spy)

    def cut(patch):
        count(patch)
        patch.setattr(Trainer, "_step", cut_step)

    def cut_step(self, *arguments):
        if len(asked) == 6 + 4:
            raise CutError
        step(self, *arguments)

    whole = ends_of(fabric, config.replace(experiment="whole"), count)
    parted = config.replace(experiment="parted")
    with pytest.raises(CutError):
        ends_of(fabric, parted, cut)
    fabric.barrier()  # rank 0 has left the folder
    resumed = ends_of(fabric, parted.replace(resume="auto"), count)
    return whole, resumed, of_all_ranks(asked)


def test_two_ranks_share_what_they_keep(two_ranks):
    """In a later epoch a rank sees images that the other one asked about."""
    config = two_ranks.replace(
        teacher_views=2, epochs=4, checkpoint_every=1, print_freq=1, distiller="kd"
    )
    whole, resumed, asked = on_two_ranks(config, rest)
    assert [end["student"] for end in whole] == [whole[0]["student"]] * 2
    assert resumed == whole
    assert asked == [[5] * 12] * 2


def elsewhere(fabric, config):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeping.socket, "gethostname", lambda: f"node-{fabric.global_rank}")
        with pytest.raises(InputError) as caught:
            run_work(fabric, config, make=ClassifierWork, reporter=Heard())
    return of_all_ranks(str(caught.value))


def test_ranks_on_several_machines_are_refused(two_ranks):
    told = on_two_ranks(two_ranks.replace(teacher_views=2), elsewhere)
    assert "and these run on 2 machines; use one, or leave the option out" in told[0]
    assert told[0] == told[1]

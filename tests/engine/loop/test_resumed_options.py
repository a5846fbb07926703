"""A resumed run with other options: said once, and the earlier options are kept."""

import logging
import re
from pathlib import Path

import pytest
import torch
import yaml

from engine.loop.test_trainer import CutAt, PowerCutError, rows_of
from mgd.cli.parser import RunParser
from mgd.engine.loop.checkpoint import load_checkpoint, save_checkpoint
from mgd.engine.run import train
from mgd.errors import InputError
from mgd.runfolder import OptionsChange, read_run

pytestmark = pytest.mark.usefixtures("few_digits")


@pytest.fixture
def config(fast_run):
    return fast_run.replace(experiment="run", epochs=1, checkpoint_every=1, print_freq=1)


@pytest.fixture
def folder(config):
    """The folder of a finished run of one epoch."""
    return train(config).folder


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.WARNING)
    return lambda: [r.getMessage() for r in caplog.records if "other options" in r.getMessage()]


def kept(folder):
    return sorted(path.name for path in folder.glob("args-*"))


def test_what_changes_is_said_in_one_message(config, folder, said):
    train(config.replace(resume="auto", epochs=2, learning_rate=0.05, warmup=1, compile=False))
    (message,) = said()
    assert message == (
        "the run goes on with other options: --epochs 1 -> 2, --learning-rate 0.1 -> 0.05, "
        f"--warmup 0 -> 1; to keep its own, stop it and resume with -c {folder}/"
        "args-until-epoch-1-step-0.yaml"
    )


def test_what_was_not_given_is_said_to_be(config, folder, said, tmp_path):
    train(config.replace(resume="auto", channels_last=True, lr_drop_epochs=(3,), gpu=None))
    assert "--lr-drop-epochs 31 61 81 -> 3, --channels-last (not given) -> (given);" in (said()[0])


def test_the_named_file_brings_the_runs_own_options_back(config, folder, said):
    other = train(config.replace(resume="auto", learning_rate=0.05)).folder
    assert other == folder
    file = re.search(r"-c (\S+)$", said()[0])[1]
    assert yaml.safe_load(Path(file).read_text()) == config.flat()
    assert RunParser("train").read(["-c", file]) == config


def test_resuming_as_before_says_nothing_and_keeps_nothing(config, folder, said):
    train(config.replace(resume="auto"))
    train(config.replace(resume=str(folder / "last.ckpt")))
    free = {"print_freq": 3, "checkpoint_every": 0, "tensorboard": 1, "workers": 1}
    train(config.replace(resume="auto", start_epoch=0, dist_url="tcp://localhost:9", **free))
    assert said() == []
    assert kept(folder) == []
    assert read_run(folder).changes == []
    assert read_run(folder).options["print-freq"] == 3


def test_a_moved_data_folder_is_said_by_its_name(fast_run, image_folder, said):
    config = fast_run.replace(data=str(image_folder), train_images=0, experiment="run", epochs=1)
    train(config)
    moved = image_folder.rename(image_folder.with_name("moved"))
    train(config.replace(data=str(moved), resume="auto"))
    assert f"other options: DATA {image_folder} -> {moved}; to keep" in said()[0]


def test_every_change_is_kept_with_its_place(config, folder, said):
    with pytest.raises(PowerCutError):
        train(config.replace(resume="auto", epochs=2, seed=7), CutAt(1, 3))
    train(config.replace(resume="auto", epochs=3, seed=7))
    assert [(change.epoch, change.step) for change in read_run(folder).changes] == [(1, 0), (1, 2)]
    assert read_run(folder).changes == [
        OptionsChange(epoch=1, step=0, changed={"epochs": (1, 2), "seed": (42, 7)}),
        OptionsChange(epoch=1, step=2, changed={"epochs": (2, 3)}),
    ]
    assert len(said()) == 2
    assert len(rows_of(folder)) == 3


def test_options_that_trained_nothing_leave_no_trace(config, folder):
    with pytest.raises(PowerCutError):  # before the first checkpoint of the epoch
        train(config.replace(resume="auto", epochs=2, seed=7), CutAt(1, 1))
    assert read_run(folder).options["seed"] == 7
    train(config.replace(resume="auto", epochs=2, seed=8))
    (change,) = read_run(folder).changes
    assert change.changed == {"epochs": (1, 2), "seed": (42, 8)}


def test_what_is_trained_again_loses_its_earlier_options(config, folder):
    begin = folder.with_name("begin.ckpt")
    begin.write_bytes((folder / "last.ckpt").read_bytes())
    train(config.replace(resume="auto", epochs=2, seed=7))
    train(config.replace(resume="auto", epochs=3, seed=8))
    assert kept(folder) == ["args-until-epoch-1-step-0.yaml", "args-until-epoch-2-step-0.yaml"]
    train(config.replace(resume=str(begin), epochs=2))
    (change,) = read_run(folder).changes
    assert (change.epoch, change.changed) == (1, {"epochs": (1, 2)})


def test_a_run_that_goes_on_in_another_folder_keeps_what_it_came_with(config, folder):
    resume = str(folder / "last.ckpt")
    other = train(config.replace(resume=resume, experiment="other", epochs=2)).folder
    assert kept(folder) == []
    (change,) = read_run(other).changes
    assert change.changed == {"epochs": (1, 2), "experiment": ("run", "other")}


@pytest.mark.parametrize("name", ["seed", "learning-rate"])
def test_a_checkpoint_without_an_option_was_made_with_its_default(config, folder, said, name):
    state = load_checkpoint(folder / "last.ckpt")
    state["config"] = {"resume": "auto", "gone": 1, **state["config"]}
    del state["config"][name]
    save_checkpoint(state, folder / "last.ckpt")
    train(config.replace(resume="auto"))
    assert said() == []
    train(config.replace(resume="auto", seed=1, learning_rate=0.2))
    assert "--learning-rate 0.1 -> 0.2, --seed 42 -> 1;" in said()[0]
    assert read_run(folder).changes[0].changed == {"learning-rate": (0.1, 0.2), "seed": (42, 1)}
    (file,) = folder.glob("args-*")
    RunParser("train").read(["-c", str(file)])


def test_a_tensor_in_the_place_of_an_option_is_one_line(config, folder):
    state = load_checkpoint(folder / "last.ckpt")
    state["config"]["data"] = torch.zeros(())
    save_checkpoint(state, folder / "last.ckpt")
    with pytest.raises(InputError, match="the checkpoint does not fit"):
        train(config.replace(resume=str(folder / "last.ckpt")))


@pytest.mark.parametrize("now", [{}, {"mgd_with_kd": 0, "kd_weight": 1.0}])
def test_defaults_of_an_earlier_version_are_todays_under_another_name(config, folder, said, now):
    state = load_checkpoint(folder / "last.ckpt")
    state["config"] |= {"mgd-with-kd": 0, "kd-weight": 1.0}
    save_checkpoint(state, folder / "last.ckpt")
    train(config.replace(resume="auto", epochs=2, **now))
    assert len(said()) == 1
    assert said()[0].startswith("the run goes on with other options: --epochs 1 -> 2; to keep")


def test_a_loss_on_the_logits_is_not_left_out_by_resuming(config, folder):
    state = load_checkpoint(folder / "last.ckpt")
    state["config"] |= {"mgd-with-kd": 1}
    save_checkpoint(state, folder / "last.ckpt")
    with pytest.raises(InputError, match="made with --mgd-with-kd 1, not None"):
        train(config.replace(resume="auto", epochs=2))


def test_a_resumed_run_trains_at_the_rates_of_its_options(config, folder):
    train(config.replace(resume="auto", epochs=2, learning_rate=0.05, wd=0.3, momentum=0.5))
    state = load_checkpoint(folder / "last.ckpt")
    (group,) = state["optimizer"]["param_groups"]
    rates = [group[name] for name in ("lr", "initial_lr", "weight_decay", "momentum")]
    assert rates == [0.05, 0.05, 0.3, 0.5]
    assert state["scheduler"]["base_lrs"] == [0.05]
    assert [float(row["lr"]) for row in rows_of(folder)] == [0.1, 0.05]

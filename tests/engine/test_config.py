"""Configuration: ranges are checked, every option has one name, a file gives it back."""

import dataclasses

import pytest
import yaml

from mgd.cli.parser import Parser, add_run_options, read_run_options
from mgd.engine.options.config import RunConfig
from mgd.errors import InputError


@pytest.mark.parametrize(
    ("name", "value", "bounds"),
    [
        ("epochs", 0, "at least 1"),
        ("epochs", -3, "at least 1"),
        ("size", 0, "at least 1"),
        ("batch_size", 0, "at least 1"),
        ("workers", -1, "at least 0"),
        ("holdout", 0.95, "from 0 to 0.9"),
        ("momentum", 1.0, "from 0 to 0.999"),
        ("wd", -1e-4, "at least 0"),
        ("wd", float("nan"), "at least 0"),
        ("kd_weight", float("inf"), "at least 0"),
        ("seed", 2**32, "from 0 to 4294967295"),
        ("gpu", -1, "at least 0"),
        ("mgd_update_freq", -1, "at least 0"),
        ("warmup_epochs", 0, "at least 1"),
    ],
)
def test_a_value_out_of_range_is_named(name, value, bounds):
    flag = name.replace("_", "-")
    with pytest.raises(InputError, match=f"--{flag} {value} is out of range; give {bounds}"):
        RunConfig().replace(**{name: value})


def test_replace_changes_one_group_and_leaves_the_original():
    config = RunConfig()
    changed = config.replace(epochs=7, arch="resnet18")
    assert (changed.schedule.epochs, changed.networks.arch) == (7, "resnet18")
    assert changed.data is not None
    assert config == RunConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.schedule.epochs = 3


def test_replace_knows_its_options():
    with pytest.raises(TypeError, match="no option is called epoch"):
        RunConfig().replace(epoch=7)


def test_no_two_groups_share_a_name():
    groups = [getattr(RunConfig(), group.name) for group in dataclasses.fields(RunConfig)]
    assert len(RunConfig().flat()) == sum(len(vars(group)) for group in groups)


CONFIGS = [
    {},
    {"lr_drop_epochs": (3, 5), "loss_factor": 64.0, "use_pretrained": 0},
    {"lr_drop_epochs": (), "use_pretrained": 1, "gpu": 2, "pretrained": True},
    {"experiment": "-odd name", "learning_rate": 1e-5, "channels_last": True, "sync_bn": 1},
    {"teacher": "torchvision:resnet18", "warmup": 1, "precision": "bf16", "lr_schedule": "cosine"},
]


@pytest.mark.parametrize("values", CONFIGS)
@pytest.mark.parametrize("data_first", [True, False])
def test_a_written_config_read_back_is_the_same(tmp_path, values, data_first):
    config = RunConfig().replace(data="digits", **values)
    path = tmp_path / "args.yaml"
    path.write_text(yaml.safe_dump(config.flat()))
    parser = Parser(prog="mgd train")
    add_run_options(parser, RunConfig())
    words = ["digits", "-c", str(path)] if data_first else ["-c", str(path), "digits"]
    assert read_run_options(parser, words, RunConfig()) == config


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "mobilenet_v1-base"),
        ({"distiller": "kd", "arch": "timm:x/y"}, "timm-x-y-kd"),
        ({"distiller": "mgd", "mgd_reducer": "sp", "mgd_with_kd": 1}, "mobilenet_v1-mgd-sp-kd"),
        ({"experiment": "mine"}, "mine"),
    ],
)
def test_run_names(values, name):
    assert RunConfig().replace(**values).run_name == name


def test_the_published_teachers_are_the_defaults():
    assert RunConfig().teacher_name == "resnet50"
    assert RunConfig().replace(arch="resnet50").teacher_name == "resnet152"
    assert RunConfig().replace(arch="resnet50", teacher="resnet34").teacher_name == "resnet34"


def test_the_warm_up_comes_on_top_of_the_epochs():
    assert RunConfig().replace(epochs=30, warmup=1, warmup_epochs=4).schedule.total_epochs == 34
    assert RunConfig().replace(epochs=30, warmup=0, warmup_epochs=4).schedule.total_epochs == 30


def test_a_choice_that_is_none_is_refused_in_code_too():
    with pytest.raises(InputError, match="--distiller magic is unknown; choose one of none, kd"):
        RunConfig().replace(distiller="magic")

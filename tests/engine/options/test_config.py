"""Configuration: ranges are checked, every option has one name, a file gives it back."""

import dataclasses
import re

import pytest
import yaml

from mgd.cli.parser import RunParser
from mgd.engine.options.config import OPTIONS, RunConfig, read_yaml
from mgd.engine.options.option import COMMANDS
from mgd.engine.options.schedule import ScheduleConfig
from mgd.errors import InputError


@pytest.mark.parametrize(
    ("name", "value", "bounds"),
    [
        ("epochs", 0, "at least 1"),
        ("epochs", -3, "at least 1"),
        ("size", 0, "from 2 to 4096, or auto"),
        ("batch_size", 0, "at least 1"),
        ("bit_depth", 7, "from 8 to 16, or auto"),
        ("bit_depth", 17, "from 8 to 16, or auto"),
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
    reason = rf"`{name}` \(={value}\) is out of range; give {bounds}"
    with pytest.raises(InputError, match=reason):
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
    assert len({name for group in groups for name in vars(group)}) == sum(
        len(vars(group)) for group in groups
    )


def test_resume_is_how_a_process_began_and_no_option_of_the_run():
    assert RunConfig().replace(resume="auto").flat() == RunConfig().flat()
    assert len(RunConfig().flat()) == len(OPTIONS) - 1


def test_a_users_own_file_may_resume(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("resume: auto\n")
    assert RunParser("train").read(["digits", "-c", str(path)]).output.resume == "auto"


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
    words = ["digits", "-c", str(path)] if data_first else ["-c", str(path), "digits"]
    assert RunParser("train").read(words) == config


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
    reason = r"`distiller` \(=magic\) is unknown; choose one of none, kd"
    with pytest.raises(InputError, match=reason):
        RunConfig().replace(distiller="magic")


@pytest.mark.parametrize("key", ["feature-weight", "feature_weight", "loss-worth", "loss_worth"])
def test_a_file_may_use_any_name_of_an_option(tmp_path, key):
    path = tmp_path / "args.yaml"
    path.write_text(f"{key}: 3.0\nlr: 0.5\n")
    config = RunParser("distill").read(["digits", "-c", str(path)])
    assert config.distillation.feature_weight == 3
    assert config.schedule.learning_rate == 0.5
    again = RunParser("distill").read(["digits", "-c", str(path), "--feature-weight", "1"])
    assert again.distillation.feature_weight == 1


@pytest.mark.parametrize("words", [["--loss-worth", "3"], ["--loss-worth=3"]])
def test_the_old_name_of_a_flag_is_accepted_with_a_warning(words, caplog):
    config = RunParser("distill").read(["digits", *words])
    assert config.distillation.feature_weight == 3
    assert "--loss-worth is now called --feature-weight" in caplog.text


@pytest.mark.parametrize(("key", "warned"), [("loss-worth", 1), ("loss_worth", 1), ("lr", 0)])
def test_the_old_name_in_a_file_is_warned_of_once(tmp_path, caplog, key, warned):
    path = tmp_path / "args.yaml"
    path.write_text(f"{key}: 3.0\n")
    RunParser("distill").read(["digits", "-c", str(path)])
    assert caplog.text.count("is now called") == warned


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("epochs: 3\nlr: 1\nepochs: 4\n", r"'epochs' is given twice, again in line 3; keep one"),
        ("lr: 1\nlearning-rate: 1\n", "'lr' and 'learning-rate' are the same option; keep one"),
        ("epoch: 3\n", "unknown option 'epoch'; nearest: epochs"),
        ("xyzzy: 3\n", "unknown option 'xyzzy'; mgd distill --help-all lists them all"),
    ],
)
def test_a_file_with_doubtful_keys_is_refused(tmp_path, content, reason):
    path = tmp_path / "args.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=f"^-c {re.escape(str(path))}: {reason}"):
        RunParser("train").read(["digits", "-c", str(path)])


@pytest.mark.parametrize("command", COMMANDS)
def test_data_of_a_file_is_used_where_none_is_given(tmp_path, command):
    path = tmp_path / "args.yaml"
    path.write_text("data: -photos\nstudent-resume: x.pth\n")
    for words, data in ([], "-photos"), (["digits"], "digits"):
        for order in ([*words, "-c", str(path)], ["-c", str(path), "--size", "8", *words]):
            assert RunParser(command).read(order).data.data == data


@pytest.mark.parametrize("content", ["epochs: 3\n", "data:\n", "data: ''\n"])
def test_no_data_anywhere_is_one_line(tmp_path, content):
    path = tmp_path / "args.yaml"
    path.write_text(content)
    reason = f"required: DATA, or 'data' in {re.escape(str(path))}; see mgd train --help"
    with pytest.raises(InputError, match=reason):
        RunParser("train").read(["-c", str(path)])


@pytest.mark.parametrize("option", ["arch", "teacher"])
def test_code_in_a_file_needs_the_same_option_on_the_command_line(tmp_path, option):
    path = tmp_path / "args.yaml"
    path.write_text(f"{option}: mynets:tiny\n")
    other = {"arch": "teacher", "teacher": "arch"}[option]
    for words in ([], [f"--{other}", "mynets:tiny"]):
        with pytest.raises(InputError, match=f"{option} 'mynets:tiny' would run code named in a"):
            RunParser("distill").read(["digits", "-c", str(path), *words])
    words = ["digits", "-c", str(path), f"--{option}", "mynets:other"]
    assert getattr(RunParser("distill").read(words).networks, option) == "mynets:other"


def test_yes_and_no_are_values_of_a_switch(tmp_path):
    path = tmp_path / "args.yaml"
    path.write_text("fold-teacher: no\nwarmup: yes\ncompile: yes\nchannels-last: no\n")
    config = RunParser("distill").read(["digits", "-c", str(path)])
    assert (config.devices.fold_teacher, config.schedule.warmup) == (0, 1)
    assert (config.devices.compile, config.devices.channels_last) == (True, False)
    path.write_text("epochs: no\n")
    with pytest.raises(InputError, match="'False' is not usable, give a whole number"):
        RunParser("distill").read(["digits", "-c", str(path)])


def test_a_file_of_a_run_without_a_teacher_does_not_distil(tmp_path):
    path = tmp_path / "args.yaml"
    path.write_text(yaml.safe_dump(RunParser("train").read(["digits"]).flat()))
    reason = r"-c .*args.yaml is of a run without a teacher \(distiller: none\); use mgd train, or"
    with pytest.raises(InputError, match=reason):
        RunParser("distill").read(["-c", str(path)])
    words = ["-c", str(path), "--distiller", "kd"]
    assert RunParser("distill").read(words).distillation.distiller == "kd"


def test_a_file_of_a_distilled_run_trains_alone_if_told_to(tmp_path):
    path = tmp_path / "args.yaml"
    path.write_text(yaml.safe_dump(RunParser("distill").read(["digits", "--epochs", "7"]).flat()))
    with pytest.raises(InputError, match=r"use mgd distill, or give `distiller=none`"):
        RunParser("train").read(["-c", str(path)])
    assert RunParser("train").read(["-c", str(path), "--distiller", "none"]).schedule.epochs == 7


def test_a_key_twice_in_a_points_file_is_refused(tmp_path):
    path = tmp_path / "points.yaml"
    path.write_text("- {teacher: relu, student: relu, teacher: conv}\n")
    with pytest.raises(InputError, match=r"--points .*'teacher' is given twice, again in line 1"):
        read_yaml(path, "--points")


@pytest.mark.parametrize(
    ("word", "near"), [("--epoch-s", "--epochs"), ("--batchsize=3", "--batch-size")]
)
def test_an_unknown_flag_is_told_the_nearest(word, near):
    with pytest.raises(InputError, match=rf"unrecognized arguments: {word} .*\(nearest: {near}\)"):
        RunParser("train").read(["digits", word, "3"])


def test_an_empty_word_too_many_is_refused():
    with pytest.raises(InputError, match="unrecognized arguments"):
        RunParser("train").read(["digits", ""])


def test_training_without_a_teacher_refuses_to_distil(tmp_path):
    path = tmp_path / "args.yaml"
    path.write_text("distiller: kd\n")
    for words in (["--distiller", "mgd"], ["-c", str(path)]):
        with pytest.raises(InputError, match="needs a teacher, and mgd train has none; use mgd di"):
            RunParser("train").read(["digits", *words])


def test_training_without_a_teacher_says_what_it_leaves_unused(caplog):
    config = RunParser("train").read(["digits", "--distiller", "none", "--teacher", "resnet34"])
    assert config.networks.teacher == "resnet34"
    assert "--teacher: no effect, since mgd train has no teacher; use mgd distill" in caplog.text


def test_distilling_without_a_teacher_refuses_its_options(tmp_path, caplog):
    words = ["digits", "--distiller", "none", "--kd-weight", "2"]
    with pytest.raises(InputError, match="`kd_weight` has no effect"):
        RunParser("distill").read(words)
    path = tmp_path / "shared.yaml"
    path.write_text("kd-weight: 2\n")  # a file that several runs share may hold more
    assert RunParser("distill").read(["digits", "-c", str(path)]).distillation.kd_weight == 2


def test_evaluation_takes_the_options_of_training_and_a_teacher(caplog):
    words = ["digits", "--epochs", "3", "--student-resume", "x.pth", "--teacher-resume", "y.pth"]
    assert RunParser("evaluate").read(words).output.evaluate
    assert RunParser("train").read([*words, "--evaluate"]).networks.teacher_resume == "y.pth"
    assert not caplog.text


@pytest.mark.parametrize(("opt", "rate"), [("sgd", 0.1), ("adamw", 0.001)])
def test_an_optimizer_has_its_own_learning_rate_in_python_too(opt, rate):
    """As on the command line; see test_recipes.py."""
    assert ScheduleConfig(opt=opt).learning_rate == rate
    assert RunConfig().replace(opt=opt).schedule.learning_rate == rate
    assert RunConfig(schedule=ScheduleConfig(opt=opt)).flat()["learning-rate"] == rate
    assert ScheduleConfig(opt=opt, learning_rate=0.1).learning_rate == 0.1
    given = RunConfig().replace(opt=opt, learning_rate=0.3)
    assert given.replace(epochs=7, opt=opt).schedule.learning_rate == 0.3
    other = "adamw" if opt == "sgd" else "sgd"
    back = given.replace(opt=other).replace(opt=opt)
    assert back.schedule.learning_rate == rate

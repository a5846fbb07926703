"""Recipes: read by both commands, below the user's file and flags, and kept as plain options."""

import pytest
import yaml

from mgd.cli.main import main
from mgd.cli.parser import RunParser
from mgd.engine.options.config import OPTIONS, RunConfig
from mgd.engine.options.recipes import RECIPES
from mgd.errors import InputError


def read(*words, command="distill"):
    return RunParser(command).read(["digits", *words])


def test_the_recipes_have_these_names():
    assert list(RECIPES) == ["finetune", "paper", "patient"]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("command", ["train", "distill"])
def test_a_recipe_sets_what_its_file_says(name, command, caplog):
    content = yaml.safe_load(RECIPES[name].read_text())
    found = read("--recipe", name, command=command).flat()
    default = RunParser(command).read(["digits"]).flat()
    for key, value in content.items():
        is_used = command in OPTIONS[key.replace("-", "_")].commands
        assert found[key] == (value if is_used else default[key])
    assert {key for key in found if found[key] != default[key]} <= set(content)
    assert not caplog.text  # a recipe gives mgd train nothing of a teacher


def test_the_papers_recipe_is_the_default_with_a_warm_up():
    assert read("--recipe", "paper") == read("--warmup", "1", "--ce-weight", "1")


def test_a_file_wins_over_the_recipe_and_a_flag_over_both(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("epochs: 7\nlr-drop-epochs: [3, 5]\nmodel-ema: no\n")
    config = read("--recipe", "patient", "-c", str(path), "--wd", "0.25")
    schedule = config.schedule
    assert (schedule.epochs, schedule.wd, schedule.model_ema) == (7, 0.25, False)
    assert schedule.lr_schedule == "cosine"  # the recipe's, which nothing else names
    config = read("--recipe", "paper", "-c", str(path), "--lr-drop-epochs", "4")
    assert config.schedule.lr_drop_epochs == (4,)


def test_the_options_of_a_run_hold_without_the_recipe(tmp_path):
    config = read("--recipe", "patient", "--epochs", "9")
    path = tmp_path / "args.yaml"
    path.write_text(yaml.safe_dump(config.flat()))
    assert RunParser("distill").read(["-c", str(path)]) == config
    assert "recipe" not in config.flat()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_printed_as_a_file_of_options(name, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["distill", "--show-recipe", name])
    assert ended.value.code == 0
    path = tmp_path / "mine.yaml"
    path.write_text(capsys.readouterr().out)
    assert read("-c", str(path)) == read("--recipe", name)


def test_an_unknown_recipe_is_told_those_there_are():
    with pytest.raises(InputError, match=r"invalid choice: 'pateint'.*finetune.*paper.*patient"):
        read("--recipe", "pateint")


def test_the_rate_of_adamw_is_its_own_where_none_is_given(tmp_path):
    assert read("--opt", "adamw").schedule.learning_rate == 0.001
    assert read("--opt", "adamw", "--lr", "0.1").schedule.learning_rate == 0.1
    assert read("--opt", "sgd") == read()
    path = tmp_path / "mine.yaml"
    path.write_text("opt: adamw\n")
    assert read("-c", str(path)).schedule.learning_rate == 0.001


def test_no_optimizer_takes_over_the_rate_of_another(tmp_path):
    told = r"`opt=adamw` needs a learning rate of its own: the one given elsewhere \(0.1\) is for"
    path = tmp_path / "args.yaml"
    path.write_text(yaml.safe_dump(RunConfig().replace(distiller="mgd").flat()))
    for words in (["--recipe", "patient"], ["-c", str(path)]):
        with pytest.raises(InputError, match=told):
            read(*words, "--opt", "adamw")
        assert read(*words, "--opt", "adamw", "--lr", "0.002").schedule.learning_rate == 0.002
        assert read(*words, "--opt", "sgd").schedule.learning_rate == 0.1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--opt", "adamw", "--momentum", "0.5"], r"`momentum` \(=0.5\) has no effect with `opt="),
        (["--model-ema-decay", "0.5"], "`model_ema_decay`.* has no effect without `model_ema`"),
    ],
)
@pytest.mark.parametrize("command", ["train", "distill"])
def test_an_option_without_effect_is_refused(words, reason, command):
    with pytest.raises(InputError, match=reason):
        read(*words, command=command)
    assert read("--recipe", "paper", "--opt", "adamw", "--lr", "0.1", command=command)

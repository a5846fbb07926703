"""The beginning of a run: its folder is there before long work, and goes where it cannot begin."""

import logging
from pathlib import Path

import pytest
import torchvision
from filelock import FileLock, Timeout

from engine.loop.test_trainer import CutAt, PowerCutError, rows_of
from mgd.engine import run
from mgd.engine.loop import pipeline
from mgd.engine.loop.checkpoint import load_checkpoint, save_checkpoint
from mgd.engine.loop.runlog import Reporter
from mgd.engine.run import train
from mgd.engine.tasks import distillation
from mgd.errors import InputError

LONG = {
    "scoring the teacher": (pipeline.Pipeline, "score"),
    "matching": (distillation, "update_matching"),
    "searching bad images": (pipeline, "drop_bad_images"),
    "building": (run, "build_task"),
}


@pytest.fixture
def config(fast_distillation, image_folder):
    return fast_distillation.replace(
        data=str(image_folder), train_images=0, skip_bad_images=True, experiment="run", epochs=1
    )


def folder_of(config):
    return Path(config.output.output) / config.output.experiment


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def is_locked(folder):
    try:
        FileLock(folder / ".lock", timeout=0).acquire().lock.release()
    except Timeout:
        return True
    return False


class KilledError(BaseException):
    """The process is killed."""


@pytest.mark.parametrize("work", LONG)
def test_the_folder_is_there_and_locked_when_long_work_starts(config, monkeypatch, work):
    owner, name = LONG[work]
    do, found = getattr(owner, name), []

    def spy(*arguments, **options):
        folder = folder_of(config)
        found.append(((folder / "args.yaml").exists(), is_locked(folder)))
        return do(*arguments, **options)

    monkeypatch.setattr(owner, name, spy)
    train(config)
    assert found[0] == (True, True)


@pytest.mark.parametrize("work", LONG)
def test_a_run_that_is_killed_before_it_trains_starts_over(config, monkeypatch, work):
    owner, name = LONG[work]

    def kill(*arguments, **options):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, kill)
        with pytest.raises(KilledError):
            train(config)
    assert not is_locked(folder_of(config))
    with pytest.raises(InputError, match="holds a run already; go on with --resume auto"):
        train(config)
    assert train(config.replace(resume="auto")).folder == folder_of(config)
    assert len(rows_of(folder_of(config))) == 1


def test_an_unnamed_run_that_is_killed_before_it_trains_is_gone_on_with(config, monkeypatch):
    config = config.replace(experiment="")
    with monkeypatch.context() as patch:
        patch.setattr(run, "build_task", lambda *a: (_ for _ in ()).throw(KilledError()))
        with pytest.raises(KilledError):
            train(config)
    folder = train(config.replace(resume="auto")).folder
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


BAD = {
    "no data": {"data": "/nowhere"},
    "an unknown network": {"arch": "resnet19"},
    "no such weights": {"teacher_resume": "/nowhere.pth"},
    "a size that is too small": {"arch": "torchvision:vgg11", "size": 8},
    "fewer images than classes": {"train_images": 2},
    "a file of points that is none": {"points": "/nowhere.yaml"},
    "kd from a head made anew": {"teacher": "resnet18", "use_pretrained": None},
}


@pytest.fixture
def bad(config, request, monkeypatch):
    def state(weights, *arguments, **options):
        return torchvision.models.resnet18().state_dict()

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", state)
    return config.replace(**BAD[request.param])


@pytest.mark.parametrize("bad", BAD, indirect=True)
def test_a_run_with_bad_input_leaves_no_folder(bad, tmp_path):
    before = files_of(tmp_path)
    with pytest.raises(InputError) as caught:
        train(bad)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("bad", BAD, indirect=True)
def test_a_run_with_bad_input_leaves_a_folder_of_somebody_as_it_was(bad):
    folder = folder_of(bad)
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError):
        train(bad)
    assert files_of(folder) == {"notes.txt": b"mine"}


def test_a_run_that_cannot_go_on_leaves_its_folder_as_it_was(config, image_folder):
    """Also where the list of unreadable images would be another now."""
    folder = train(config).folder
    before = files_of(folder)
    (image_folder / "train" / "one" / "empty.png").touch()
    for options in ({"arch": "cifar_resnet8"}, {"points": "/nowhere.yaml"}, {"train_images": 2}):
        changed = config.replace(resume="auto", **options)
        with pytest.raises(InputError):
            train(changed)
        assert files_of(folder) == before


def test_a_checkpoint_that_does_not_fit_leaves_the_folder_it_lies_in_as_it_was(config, tmp_path):
    folder = train(config).folder
    home = tmp_path / "copies"
    home.mkdir()
    (home / "last.ckpt").write_bytes((folder / "last.ckpt").read_bytes())
    before = files_of(home)
    options = {"resume": str(home / "last.ckpt"), "experiment": "", "batch_size": 5}
    with pytest.raises(InputError, match="batch-size"):
        train(config.replace(**options))
    assert files_of(home) == before


def test_a_folder_that_another_run_holds_is_left_alone(config):
    folder = folder_of(config)
    folder.mkdir(parents=True)
    with FileLock(folder / ".lock"), pytest.raises(InputError, match="in use by another run"):
        train(config)
    assert set(files_of(folder)) <= {".lock"}


def test_a_run_that_has_begun_keeps_its_folder_whatever_comes(config):
    with pytest.raises(PowerCutError):
        train(config.replace(print_freq=1), CutAt(0, 1))
    assert (folder_of(config) / "args.yaml").exists()


# Weak teachers.


class Heard(Reporter):
    """Keeps what is said, in the order of what happens."""

    def __init__(self):
        self.heard = []

    def message(self, text):
        self.heard.append(text)

    def start_epoch(self, *arguments):
        self.heard.append("epoch")


@pytest.mark.usefixtures("few_digits")
def test_a_teacher_no_better_than_chance_is_warned_of_once_before_training(
    fast_distillation, caplog
):
    """The digits have a test part, on which the teacher is measured in the end."""
    heard = Heard()
    handler = logging.Handler()
    handler.emit = lambda record: heard.heard.append(record.getMessage())
    logging.getLogger("mgd").addHandler(handler)
    try:
        outcome = train(fast_distillation, heard)
    finally:
        logging.getLogger("mgd").removeHandler(handler)
    warned = [place for place, text in enumerate(heard.heard) if "no better than chance" in text]
    assert len(warned) == 1
    assert warned[0] < heard.heard.index("epoch")
    assert outcome.teacher.images == 60
    said = [text for text in heard.heard if text.startswith("teacher: Acc@1")]
    assert len(said) == 1
    assert said[0].endswith("on 60 images of valid")


def test_a_teacher_whose_features_alone_teach_has_no_accuracy(config, tmp_path):
    state = load_checkpoint(
        train(config.replace(distiller="none", experiment="teacher")).folder / "last.ckpt"
    )
    state["mgd"]["classes"] = ["x", "y", "z"]
    save_checkpoint(state, tmp_path / "other.ckpt")
    options = {
        "teacher_resume": str(tmp_path / "other.ckpt"),
        "teacher": "",
        "arch": "mobilenet_v1",
    }
    config = config.replace(**options, size=32)
    heard = Heard()
    outcome = train(config.replace(mgd_with_kd=0), heard)
    assert outcome.teacher is None
    assert not any(text.startswith("teacher: Acc@1") for text in heard.heard)
    assert any("only its features teach: it does not know 3" in text for text in heard.heard)
    assert "teacher_top1" not in rows_of(outcome.folder)[0]
    with pytest.raises(InputError, match=r"has 3: x, y, z; the data has 3: nought, one, two"):
        train(config.replace(experiment="kd"))
    assert not folder_of(config.replace(experiment="kd")).exists()


def test_the_order_of_a_teachers_outputs_changes_nothing_that_is_learned(config, tmp_path):
    """Rows of the last layer in another order, and the names with them: bit by bit the same run."""
    folder = train(config.replace(distiller="none", experiment="teacher")).folder
    state = load_checkpoint(folder / "last.ckpt")
    order = [2, 0, 1]
    for name in ("linear.weight", "linear.bias"):
        state["student"][name] = state["student"][name][order]
    state["mgd"]["classes"] = [state["mgd"]["classes"][place] for place in order]
    save_checkpoint(state, tmp_path / "turned.ckpt")
    plain, turned = (
        train(config.replace(teacher_resume=str(path), teacher="", experiment=path.stem))
        for path in (folder / "last.ckpt", tmp_path / "turned.ckpt")
    )
    assert rows_of(turned.folder) == rows_of(plain.folder)
    assert "loss_kd" in rows_of(plain.folder)[0]
    assert "teacher_top1" in rows_of(plain.folder)[0]

"""Runs of detectors: what they leave behind, and that a resumed one ends as if nothing happened."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from boxed import CLASSES, write_coco, write_voc
from engine.loop.test_trainer import CutAt, PowerCutError, rows_of
from mgd.cli.main import main
from mgd.engine.detection.work import train_detector
from mgd.engine.loop.checkpoint import checksum, load_checkpoint
from mgd.engine.options.config import RunConfig
from mgd.errors import InputError
from mgd.models import create_detector, read_metadata
from mgd.report import write_report
from mgd.runfolder import read_boxes, read_run

ARCH = "retinanet_x0_125/timm:test_resnet"


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory):
    return write_voc(tmp_path_factory.mktemp("shapes") / "voc")


@pytest.fixture
def alone(shapes_folder, tmp_path):
    """A run of seconds: two epochs of two steps on six images."""
    return RunConfig().replace(
        data=str(shapes_folder), arch=ARCH, size=64, batch_size=3, epochs=2, workers=0,
        learning_rate=0.01, output=str(tmp_path / "runs"), tensorboard=0, print_freq=1, devices=1,
    )  # fmt: skip


@pytest.fixture(scope="session")
def teacher(shapes_folder, tmp_path_factory):
    config = RunConfig().replace(
        data=str(shapes_folder), arch=ARCH, size=64, batch_size=6, epochs=1, workers=0, devices=1,
        learning_rate=0.01, output=str(tmp_path_factory.mktemp("teacher")), tensorboard=0,
    )  # fmt: skip
    return train_detector(config).folder


@pytest.fixture
def taught(alone, teacher):
    return alone.replace(distiller="mgd", teacher_resume=str(teacher))


def ends(folder):
    """Returns all that a run ends with, but for the times."""
    state = load_checkpoint(folder / "last.ckpt")
    return checksum({name: state[name] for name in state if name not in ("config", "rng")})


def test_a_run_leaves_a_whole_folder(alone):
    outcome = train_detector(alone.replace(tensorboard=1))
    folder = outcome.folder
    assert folder.name == "retinanet_x0_125-timm-test_resnet-base"
    assert {file.name for file in folder.iterdir()} == {
        ".lock", "args.yaml", "environment.json", "summary.csv", "result.json", "tensorboard",
        "last.ckpt", "best.ckpt", "previous.ckpt", "student.safetensors", "boxes.json",
        "MODEL_CARD.md",
    }  # fmt: skip
    rows = rows_of(folder, without=())
    assert list(rows[0]) == [
        "epoch", "lr", "loss", "loss_classification", "loss_bbox_regression", "valid_map",
        "valid_map_50", "valid_map_75", "images_per_s", "data_wait", "seconds",
    ]  # fmt: skip
    result = json.loads((folder / "result.json").read_text())
    assert result["valid_map"] == outcome.best["map"]
    assert result["test_map"] == outcome.test.map
    assert result["valid_top1"] is None
    assert read_run(folder).accuracy == outcome.test.map


def test_the_weights_load_into_the_same_network(alone):
    folder = train_detector(alone.replace(epochs=1)).folder
    metadata = read_metadata(folder / "student.safetensors")
    assert (metadata.arch, metadata.classes, metadata.view.size) == (ARCH, CLASSES, 64)
    detector = create_detector(ARCH, 2, 64)
    detector.load_state_dict(load_file(folder / "student.safetensors"))


@pytest.mark.parametrize("cut", [(0, 1), (0, None), (1, 1)], ids=str)
@pytest.mark.parametrize("kind", ["alone", "taught"])
def test_a_resumed_run_ends_where_a_whole_one_does(request, kind, cut):
    config = request.getfixturevalue(kind).replace(checkpoint_every=1)
    whole = train_detector(config.replace(experiment="whole")).folder
    stopped = config.replace(experiment="stopped")
    with pytest.raises(PowerCutError):
        train_detector(stopped, CutAt(*cut))
    again = train_detector(stopped.replace(resume="auto")).folder
    assert ends(again) == ends(whole)
    assert rows_of(again) == rows_of(whole)
    assert (again / "student.safetensors").read_bytes() == (
        whole / "student.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("options", "terms"),
    [
        ({"distiller": "mgd"}, 8),
        ({"distiller": "mgd-adapter", "points": "backbone", "position_weights": "boxes"}, 4),
        ({"distiller": "ofd", "points": "pyramid"}, 4),
        ({"mgd_solver": "random", "points": "auto", "position_weights": "scores"}, 8),
    ],
    ids=str,
)
def test_every_method_distils(taught, options, terms):
    # Levels of a pyramid are found from some pixels on.
    folder = train_detector(taught.replace(epochs=1, size=128, **options)).folder
    (record,) = read_run(folder).epochs
    own = ["loss", "loss_classification", "loss_bbox_regression"]
    found = [name for name in record.losses if name not in own]
    assert len(found) == terms
    assert all(value > 0 for value in record.losses.values())
    assert record.teacher_map is not None


def test_the_teacher_stays_as_it_was(taught, teacher):
    before = checksum(load_file(teacher / "student.safetensors"))
    folder = train_detector(taught.replace(epochs=1)).folder
    state = load_checkpoint(folder / "last.ckpt")
    assert not any("teacher" in name for name in state["distiller"])
    assert checksum(load_file(teacher / "student.safetensors")) == before


def test_a_student_of_a_teacher_takes_its_size(taught):
    folder = train_detector(taught.replace(epochs=1, size="auto")).folder
    assert read_run(folder).options["size"] == 64


@pytest.mark.parametrize("head", ["fcos", "fasterrcnn", "ssdlite"])
def test_every_head_trains(alone, head):
    arch = f"{head}_x0_125/timm:test_resnet"
    folder = train_detector(alone.replace(epochs=1, arch=arch)).folder
    (record,) = read_run(folder).epochs
    assert all(value > 0 for value in record.losses.values())


def test_coco_trains_as_voc_does(alone, tmp_path):
    by_voc = train_detector(alone.replace(experiment="voc")).folder
    coco = write_coco(tmp_path / "coco")
    by_coco = train_detector(alone.replace(experiment="coco", data=str(coco))).folder
    assert rows_of(by_voc) == rows_of(by_coco)


def test_the_report_shows_the_boxes(taught, teacher, tmp_path):
    folder = train_detector(taught.replace(epochs=1)).folder
    pictures = read_boxes(folder)
    assert [sorted(each.boxes) for each in pictures] == [["student", "teacher", "truth"]] * 3
    assert all(len(each.boxes["truth"]) == 2 for each in pictures)
    page = tmp_path / "page.html"
    write_report([read_run(folder), read_run(teacher)], page, "Runs")
    text = page.read_text()
    assert "mAP, %" in text
    assert "Acc@1" not in text
    assert text.count('style="fill: none; stroke: var(--series') >= 12


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"arch": "resnet18"}, "'resnet18' is no detector; give HEAD/BACKBONE"),
        ({"distiller": "mgd"}, "`teacher_resume` is missing"),
        ({"distiller": "kd"}, "`distiller` (=kd) needs the scores of classes"),
        ({"mixup_alpha": 0.2}, "`mixup_alpha` (=0.2) has no effect on detectors"),
        ({"augment": "cifar"}, "`augment` (=cifar) is for classifiers"),
        ({"parallel": "dp"}, "`parallel=dp` cannot cut a list of images"),
        (
            {"parallel": "fsdp", "distiller": "mgd"},
            "`parallel=fsdp` shares out the teacher of a classifier",
        ),
        ({"data": "digits"}, "data folder 'digits' does not exist"),
    ],
)
def test_what_cannot_be_used_is_told_and_leaves_no_folder(alone, options, said):
    with pytest.raises(InputError) as caught:
        train_detector(alone.replace(**options))
    assert said in str(caught.value)
    assert not Path(alone.output.output).exists()


def test_other_classes_are_refused(alone, tmp_path):
    folder = train_detector(alone.replace(epochs=1)).folder
    other = write_voc(tmp_path / "other")
    for path in (other / "Annotations").iterdir():
        path.write_text(path.read_text().replace("disc", "ring"))
    config = alone.replace(data=str(other), student_resume=str(folder), experiment="more")
    with pytest.raises(InputError, match="give data of the same classes"):
        train_detector(config)


def test_the_commands(shapes_folder, teacher, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["--epochs", "1", "-b", "6", "--workers", "0", "--tensorboard", "0"]
    words = ["distill-detector", str(shapes_folder), "--teacher-resume", str(teacher)]
    assert main([*words, "--arch", ARCH, "--experiment", "mine", *small]) == 0
    said = capsys.readouterr().out
    assert "teacher on test: mAP " in said
    assert "run folder: runs/mine" in said
    assert main(["evaluate", "runs/mine", "--workers", "0"]) == 0
    assert "student: mAP " in capsys.readouterr().out
    found = json.loads(Path("runs/evaluate-mine/detection.json").read_text())
    (student,) = found["detectors"]
    assert student["map"] == read_run("runs/mine").result.valid_map
    assert sorted(student["per_class"]) == sorted(CLASSES)
    assert main(["export", "runs/mine", "-o", "mine.safetensors"]) == 0
    one, other = load_file("mine.safetensors"), load_file("runs/mine/student.safetensors")
    assert checksum(one) == checksum(other)
    capsys.readouterr()
    assert main(["export", "runs/mine", "--format", "pt2"]) == 2
    assert "cannot be written as pt2" in capsys.readouterr().err
    assert main(["train-detector", str(shapes_folder), "--distiller", "mgd", *small]) == 2
    assert "mgd train-detector has none; use mgd distill-detector" in capsys.readouterr().err

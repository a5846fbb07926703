"""Evaluations of networks: whose classes are asked, and what is kept of it."""

import csv
import hashlib
import json

import pytest

import mgd
from mgd.engine.loop.checkpoint import load_checkpoint, save_checkpoint, save_weights
from mgd.engine.measure import evaluate_networks
from mgd.engine.run import train
from mgd.errors import InputError
from mgd.models import to_onnx, to_pt2
from mgd.runfolder import read_evaluation


@pytest.fixture
def config(fast_run, image_folder):
    return fast_run.replace(
        data=str(image_folder), train_images=0, epochs=8, augment="none", experiment="run"
    )


@pytest.fixture
def folder(config):
    return train(config).folder


@pytest.fixture
def asked(fast_run, image_folder):
    """An evaluation that says nothing of size and network: the file does."""

    def ask(file, **options):
        return fast_run.replace(
            **{"data": str(image_folder), "evaluate": True, "student_resume": str(file)},
            **{"arch": "", "size": "auto", "train_images": 0, **options},
        )

    return ask


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_run_is_measured_as_it_was_trained(folder, asked):
    best = max(float(row["valid_top1"]) for row in rows_of(folder / "summary.csv"))
    for file in (folder, folder / "student.safetensors", folder / "best.ckpt"):
        scores, _ = evaluate_networks(asked(file))
        assert scores["student"].top1 == best > 50


@pytest.mark.parametrize(("suffix", "write"), [("pt2", to_pt2), ("onnx", to_onnx)])
def test_an_exported_network_scores_the_same(folder, asked, tmp_path, suffix, write):
    network, metadata = mgd.load_network(folder / "student.safetensors")
    path = tmp_path / f"net.{suffix}"
    with path.open("wb") as file:
        write(network, metadata, file)
    (found, _), (wanted, _) = evaluate_networks(asked(path)), evaluate_networks(asked(folder))
    assert found["student"].confusion == wanted["student"].confusion
    assert found["student"].loss == pytest.approx(wanted["student"].loss, rel=1e-4)


def test_the_order_of_the_outputs_changes_no_score(folder, asked, tmp_path):
    state = load_checkpoint(folder / "best.ckpt")
    for name in ("linear.weight", "linear.bias"):
        state["student"][name] = state["student"][name][[2, 0, 1]]
    classes = state["mgd"]["classes"]
    state["mgd"]["classes"] = [classes[2], classes[0], classes[1]]
    save_checkpoint(state, tmp_path / "turned.ckpt")
    (found, there), (wanted, _) = map(
        evaluate_networks, (asked(tmp_path / "turned.ckpt"), asked(folder))
    )
    assert found["student"].top1 == wanted["student"].top1
    assert found["student"].loss == pytest.approx(wanted["student"].loss, rel=1e-5)
    assert [row["class"] for row in rows_of(there / "per_class.csv")] == ["two", "nought", "one"]


def test_teacher_and_student_are_compared_class_by_class_whatever_their_orders(
    folder, asked, tmp_path
):
    state = load_checkpoint(folder / "best.ckpt")
    for name in ("linear.weight", "linear.bias"):
        state["student"][name] = state["student"][name][[1, 2, 0]]
    names = state["mgd"]["classes"]
    state["mgd"]["classes"] = [names[1], names[2], names[0]]
    save_checkpoint(state, tmp_path / "turned.ckpt")
    scores, there = evaluate_networks(asked(folder, teacher_resume=str(tmp_path / "turned.ckpt")))
    assert scores["teacher"].confusion == scores["student"].confusion
    for row in rows_of(there / "per_class.csv"):
        assert row["teacher_top1"] == row["student_top1"]


def test_a_network_that_knows_more_is_measured_with_all_its_answers(folder, asked, image_folder):
    """An image of nought that it takes for two is wrong, though the data has no two any more."""
    (whole, _) = evaluate_networks(asked(folder))
    for part in ("train", "valid"):
        for file in (image_folder / part / "two").iterdir():
            file.unlink()
        (image_folder / part / "two").rmdir()
    (scores, there) = evaluate_networks(asked(folder))
    kept = [(label, answer, n) for label, answer, n in whole["student"].confusion if label < 2]
    assert list(scores["student"].confusion) == kept
    assert scores["student"].images == 8
    assert [row["images"] for row in rows_of(there / "per_class.csv")] == ["4", "4", "0"]


def test_classes_that_the_network_does_not_know_are_refused_with_both_lists(
    folder, asked, image_folder, tmp_path
):
    for part in ("train", "valid"):
        (image_folder / part / "two").rename(image_folder / part / "three")
    with pytest.raises(InputError, match="does not know the class 'three' of the data") as caught:
        evaluate_networks(asked(folder))
    assert "has 3: nought, one, two; the data has 3: nought, one, three" in str(caught.value)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run"]


def test_files_are_kept_and_never_overwritten(folder, asked):
    there = [evaluate_networks(asked(folder))[1] for _ in range(3)]
    assert [path.name for path in there] == [
        *("evaluate-run", "evaluate-run-2", "evaluate-run-3"),
    ]
    for path in there:
        names = sorted(file.name for file in path.iterdir())
        assert names == ["confusion.csv", "evaluation.json", "per_class.csv"]
    named = evaluate_networks(asked(folder, experiment="mine"))[1]
    assert named.name == "mine"


def test_the_run_that_is_measured_is_left_as_it_was(folder, asked):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    evaluate_networks(asked(folder))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_is_kept_is_what_was_found_and_of_which_file(folder, asked, image_folder):
    scores, there = evaluate_networks(asked(folder, teacher_resume=str(folder / "last.ckpt")))
    kept = read_evaluation(there)
    assert kept.data == str(image_folder)
    assert [each.role for each in kept.networks] == ["teacher", "student"]
    for each, file in zip(kept.networks, ("last.ckpt", "student.safetensors"), strict=True):
        assert each.weights == str(folder / file)
        assert each.sha256 == hashlib.sha256((folder / file).read_bytes()).hexdigest()
        found = scores[each.role]
        assert (each.top1, each.top5, each.loss) == (found.top1, found.top5, found.loss)
        assert (each.arch, each.images) == ("cifar_resnet8_x0_25", 12)
        assert each.view.startswith("8 px, squash 100 %")


def test_the_confusions_add_up(folder, asked):
    scores, there = evaluate_networks(asked(folder))
    rows = rows_of(there / "confusion.csv")
    assert sum(int(row["images"]) for row in rows) == scores["student"].images == 12
    right = sum(int(row["images"]) for row in rows if row["class"] == row["answer"])
    assert 100 * right / 12 == scores["student"].top1
    for row in rows_of(there / "per_class.csv"):
        mine = [each for each in rows if each["class"] == row["class"]]
        assert sum(int(each["images"]) for each in mine) == int(row["images"]) == 4


def test_weights_that_name_other_numbers_of_classes_are_one_line(asked, tmp_path):
    network = mgd.create_model("cifar_resnet8_x0_25", 4)
    metadata = mgd.Metadata(arch="cifar_resnet8_x0_25", classes=("a", "b", "c"), view=mgd.View())
    save_weights(network, tmp_path / "net.safetensors", metadata)
    with pytest.raises(InputError, match="names 3 classes, but its weights have 4 outputs"):
        evaluate_networks(asked(tmp_path / "net.safetensors"))


def test_json_of_an_evaluation_is_read_by_others(folder, asked):
    _, there = evaluate_networks(asked(folder))
    plain = json.loads((there / "evaluation.json").read_text())
    assert list(plain) == ["data", "networks"]

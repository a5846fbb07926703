"""Classes are matched by name, or refused with both lists; never by their place in silence."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import mgd
from mgd.engine.loop.checkpoint import save_weights
from mgd.runfolder import read_evaluation

SMALL = ["--size", 16, "--epochs", 1, "-b", 40, "-j", 0, "--tensorboard", 0, "-o", "runs"]
STUDENT = ["--arch", "cifar_resnet8_x0_25", *SMALL]


@pytest.fixture
def shuffled(run):
    """The run's network with its outputs in another order, and the classes with them."""
    network, metadata = mgd.load_network(run / "student.safetensors")
    order = [2, 0, 3, 1]
    with torch.no_grad():
        for parameter in network.linear.parameters():
            parameter.copy_(parameter[order].clone())
    classes = tuple(metadata.classes[place] for place in order)
    assert classes != metadata.classes
    save_weights(network, Path("shuffled.safetensors"), replace(metadata, classes=classes))
    return Path("shuffled.safetensors")


@pytest.fixture
def data(here, photos):
    """A copy of the photographs, to change."""
    return Path(shutil.copytree(photos, here / "photos").name)


def top1(folder):
    (found,) = read_evaluation(folder).networks
    return found.top1


def both(data, change):
    for part in ("train", "valid"):
        change(data / part)


def test_outputs_in_another_order_give_the_same_accuracy(run, shuffled, data, told):
    told("evaluate", data, "--model", run, "--experiment", "one")
    told("evaluate", data, "--model", shuffled, "--experiment", "other")
    assert top1("runs/one") == top1("runs/other") > 60
    one, other = (Path("runs", name, "per_class.csv").read_text() for name in ("one", "other"))
    assert sorted(one.splitlines()) == sorted(other.splitlines())


def test_as_a_teacher_too(run, shuffled, data, told):
    words = ["distill", data, *STUDENT, "--distiller", "kd", "--experiment"]
    lines = [
        told(*words, f"under-{teacher.stem}", "--teacher-resume", teacher)
        for teacher in (run, shuffled)
    ]
    one, other = (next(line for line in each if line.startswith("teacher: ")) for each in lines)
    assert one == other


def test_a_run_that_starts_from_it_keeps_its_order(shuffled, data, told):
    words = ["train", data, "--student-resume", shuffled, *SMALL[2:], "--lr", 1e-9]
    told(*words, "--experiment", "more")
    told("evaluate", "runs/more", "--experiment", "one")
    assert top1("runs/one") > 60


def test_a_renamed_class_is_refused_with_both_lists(run, data, refused):
    both(data, lambda part: (part / "two").rename(part / "deux"))
    line = refused("evaluate", data, "--model", run)
    assert "does not know the class 'deux' of the data" in line
    assert (
        "the network has 4: one, three, two, zero; the data has 4: deux, one, three, zero" in line
    )
    line = refused("distill", data, *STUDENT, "--teacher-resume", run, "--distiller", "kd")
    assert "cannot answer: it does not know 1 of the classes (the network has 4: one, three" in line
    assert "the data has 4: deux, one, three, zero" in line


def test_a_class_too_many_is_refused(run, data, refused):
    both(data, lambda part: shutil.copytree(part / "two", part / "more"))
    assert "does not know the class 'more' of the data" in refused("evaluate", data, "--model", run)


def test_without_the_images_of_a_class_the_others_are_measured(run, data, told):
    both(data, lambda part: shutil.rmtree(part / "one"))
    lines = told("evaluate", data, "--model", run, "--experiment", "fewer")
    assert "         3 classes: three, two, zero" in lines
    told("evaluate", run, "--experiment", "all")
    fewer, every = (
        {row.split(",")[0]: row for row in Path("runs", name, "per_class.csv").read_text().split()}
        for name in ("fewer", "all")
    )
    assert {name: fewer[name] for name in ("three", "two", "zero")} == {
        name: every[name] for name in ("three", "two", "zero")
    }


def test_a_start_with_as_many_other_classes_gets_a_new_head(run, data, told, caplog):
    both(data, lambda part: (part / "two").rename(part / "deux"))
    told("train", data, "--student-resume", run, *SMALL, "--experiment", "renamed")
    assert "its classes are others, so its head is made anew" in caplog.text
    _, metadata = mgd.load_network("runs/renamed/student.safetensors")
    assert metadata.classes == ("deux", "one", "three", "zero")


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_single_class_is_refused(run, data, refused, command):
    for part in ("train", "valid"):
        for name in set(os.listdir(data / part)) - {"two"}:
            shutil.rmtree(data / part / name)
    words = ["--model", run] if command == "evaluate" else STUDENT
    assert "has only one class, 'two', and a classifier needs two" in refused(command, data, *words)


def test_a_new_head_teaches_nothing(run, data, refused, monkeypatch):
    """Published weights have other classes, so that their last layer is a random one here."""
    monkeypatch.setattr("mgd.models.creation._load_torchvision", lambda network, name: None)
    words = ["distill", data, *STUDENT, "--teacher", "resnet18"]
    for method in (["--distiller", "kd"], ["--mgd-with-kd", 1]):
        line = refused(*words, *method)
        assert "published for 1000 classes, the data has 4" in line
        assert "last layer is made anew and random" in line
        assert "--distiller mgd without --mgd-with-kd" in line

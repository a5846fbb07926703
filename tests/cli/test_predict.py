"""`mgd predict`: names of classes for images given in any way, in three forms."""

import csv
import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mgd
from mgd.data.decode import decode

CLASSES = {"one", "three", "two", "zero"}


def rows(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.fixture
def odd(here, photos):
    """Images whose names a table, a terminal or a CSV file may stumble over."""
    names = ["a, b.png", "line\nbreak.png", "[red]x.png", 'quo"te.png', "ünï.png", "=1+1.png"]
    names += ["colour\x1b[31m.png", "l" * 120 + ".png"]
    (here / "odd").mkdir()
    for name in names:
        shutil.copy(photos / "valid" / "one" / "one20.png", here / "odd" / name)
    shutil.copy(photos / "valid" / "one" / "one20.png", b"odd/\xff\xfe.png")
    return [f"odd/{name}" for name in [*names, os.fsdecode(b"\xff\xfe.png")]]


@pytest.fixture
def expected(trained, photos):
    """Returns the probabilities of an image's classes, computed without the command."""
    network, metadata = mgd.load_network(trained / "student.safetensors")

    def compute(path):
        with torch.no_grad():
            shares = network(metadata.view(decode(str(path)))[None]).softmax(1)[0]
        return dict(zip(metadata.classes, shares.tolist(), strict=True))

    return compute


def test_as_json_it_is_exact(run, photos, expected, told):
    folder = photos / "valid"
    found = json.loads("\n".join(told("predict", folder, "--model", run, "--format", "json")))
    assert len(found) == 40
    for each in found:
        shares = expected(each["image"])
        order = sorted(shares, key=shares.get, reverse=True)
        assert [entry["class"] for entry in each["classes"]] == order
        for entry in each["classes"]:
            assert entry["probability"] == pytest.approx(shares[entry["class"]], abs=1e-5)
    right = sum(each["classes"][0]["class"] == Path(each["image"]).parent.name for each in found)
    assert right > 24


def test_as_csv_it_is_the_same(run, photos, told):
    words = ["predict", photos / "valid", "--model", run]
    from_json = json.loads("\n".join(told(*words, "--format", "json")))
    lines = told(*words, "--format", "csv", "--top-k", 2)
    assert lines[0] == "image,class_1,probability_1,class_2,probability_2"
    for row, each in zip(rows("\n".join(lines)), from_json, strict=True):
        first, second = each["classes"][:2]
        assert row == {
            "image": each["image"],
            "class_1": first["class"],
            "probability_1": f"{first['probability']:.6f}",
            "class_2": second["class"],
            "probability_2": f"{second['probability']:.6f}",
        }


@pytest.mark.parametrize(("asked", "shown"), [(1, 1), (3, 3), (99, 4)])
def test_as_many_classes_as_asked_for_and_no_more_than_there_are(run, photos, told, asked, shown):
    image = photos / "valid" / "two" / "two20.png"
    (line,) = told("predict", image, "--model", run, "-k", asked)
    assert line.startswith(f"{image}  ")
    assert line.count(" %") == shown


def test_files_folders_and_patterns_in_their_order_and_each_once(run, photos, told):
    shutil.copytree(photos, "photos")
    words = ["photos/valid/two/two21.png", "photos/valid/one", "photos/valid/*/*2?.png"]
    lines = told("predict", *words, "--model", run, "--format", "csv", "-k", 1)
    images = [row["image"] for row in rows("\n".join(lines))]
    assert images[0] == words[0]
    assert all(image.startswith("photos/valid/one/") for image in images[1:11])
    assert len(images) == len(set(images)) == 40


def test_batches_and_workers_change_nothing(run, photos, told):
    words = ["predict", photos / "valid", "--model", run, "--format", "csv"]
    plain = told(*words)
    assert [line.rpartition(",")[0] for line in told(*words, "-b", 3, "-j", 1)] == [
        line.rpartition(",")[0] for line in plain
    ]


@pytest.mark.needs("the compiler of 2.6 cannot trace the shape checks of the tests", torch="2.7")
@pytest.mark.parametrize("kind", ["safetensors", "pth", "pt2", "onnx"])
def test_every_export_says_the_same(run, exported, photos, told, kind):
    def found(model):
        lines = told("predict", photos / "valid", "--model", model, "--format", "csv")
        return rows("\n".join(lines))

    for one, other in zip(found(run), found(exported / f"net.{kind}"), strict=True):
        assert one["class_1"] == other["class_1"]
        assert float(one["probability_1"]) == pytest.approx(float(other["probability_1"]), abs=1e-4)


def test_odd_names_survive_csv_and_json(run, odd, told):
    told("predict", "odd", "--model", run, "--format", "csv", "-o", "found.csv")
    told("predict", "odd", "--model", run, "--format", "json", "-o", "found.json")
    content = Path("found.csv").read_bytes()
    text = content.decode(errors="surrogateescape")
    assert sorted(row["image"] for row in rows(text)) == sorted(odd)
    found = json.loads(Path("found.json").read_text())
    assert sorted(each["image"] for each in found) == sorted(odd)


def test_a_pipe_gets_the_bytes_of_a_file(run, odd, monkeypatch, told):
    told("predict", "odd", "--model", run, "--format", "csv", "-o", "found.csv")
    pipe = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", pipe)
    from mgd.cli import main

    assert main(["predict", "odd", "--model", str(run), "--format", "csv"]) == 0
    assert pipe.buffer.getvalue() == Path("found.csv").read_bytes()


def test_a_table_shows_odd_names_and_obeys_none(run, odd, told):
    lines = told("predict", "odd", "--model", run, "-k", 1)
    assert len(lines) == len(odd)
    text = "\n".join(lines)
    for shown in ("odd/[red]x.png ", r"odd/line\nbreak.png ", r"odd/colour\x1b[31m.png "):
        assert shown in text
    assert "\x1b" not in text
    assert "odd/" + "l" * 120 + ".png  " in text  # a pipe is as wide as it has to be
    assert len({line.index(line.split()[-3]) for line in lines}) == 1  # one column


def test_a_terminal_gets_whole_names_and_whole_classes(
    run, odd, photos, told, monkeypatch, terminal
):
    shutil.copytree(photos, "photos")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    short = told("predict", "photos/valid/two", "--model", run, "-k", 2)
    assert len(short) == 10
    assert max(map(len, short)) <= 80
    lines = told("predict", "photos/valid/two", "--model", run)
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert all(f"photos/valid/two/two{number}.png" in text for number in range(20, 30))
    assert text.count(" %") == 40
    assert all(line.rstrip().endswith(" %") for line in lines)
    long = told("predict", "odd", "--model", run)
    place = long.index("odd/" + "l" * 120 + ".png")
    assert len(long[place + 1]) <= 80
    assert long[place + 1].startswith("    ")
    assert long[place + 1].count(" %") == 4


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("empty --model runs/first", "'empty' is no image and holds none; give an image file"),
        ("nothing/*.jpg --model runs/first", "'nothing/*.jpg' matches no image"),
        ("note.txt --model runs/first", "'note.txt' is no image and holds none"),
        ("bad --model runs/first", "cannot read image 'bad/x.png'"),
        ("bad --model runs/first -j 1", "cannot read image 'bad/x.png'"),
        ("good", "the following arguments are required: --model/-m; see mgd predict --help"),
        ("--model runs/first", "the following arguments are required: IMAGES"),
        ("good --model nowhere", "weights 'nowhere' do not exist"),
        ("good --model empty", "'empty' is a folder, and no run folder with a finished epoch"),
        ("good --model note.txt", "'note.txt' is damaged or no file of weights"),
        ("good --model runs/first -k 0", "--top-k 0 must be at least 1"),
        ("good --model runs/first -b 0", "--batch-size 0 is out of range; give at least 1"),
        ("good --model runs/first -j -1", "--workers -1 is out of range"),
        ("good --model runs/first --bit-depth 99", "--bit-depth 99 is out of range; give from 8"),
        ("good --model runs/first -o nowhere/x", "the folder 'nowhere' does not exist; make it"),
        ("good --model runs/first -o empty", "--output empty is a folder; name a file"),
        ("good --model runs/first --fromat csv", "nearest: --format"),
        ("good --model runs/first --arch resnet18", "does not fit ResNet"),
    ],
)
def test_what_cannot_be_predicted_is_one_line(here, run, photos, refused, words, reason):
    for name in ("empty", "bad", "good"):
        (here / name).mkdir()
    (here / "note.txt").write_text("hello\n")
    shutil.copy(photos / "valid" / "one" / "one20.png", here / "good" / "a.png")
    (here / "bad" / "x.png").write_text("no image")
    assert reason in refused("predict", *words.split())


def test_grey_values_of_12_bits_are_scaled_as_in_training(run, photos, told, refused):
    grey = np.asarray(Image.open(photos / "valid" / "one" / "one20.png"), dtype=np.uint16)
    Image.fromarray(grey * 16).save("deep.png")
    words = ["predict", "deep.png", "--model", run, "--format", "csv"]
    assert "--bit-depth" in refused(*words)
    (deep,) = rows("\n".join(told(*words, "--bit-depth", 12)))
    Image.fromarray(grey.astype(np.uint8)).save("plain.png")
    (plain,) = rows("\n".join(told("predict", "plain.png", *words[2:])))
    assert {**deep, "image": ""} == {**plain, "image": ""}


def test_weights_that_name_fewer_classes_than_they_have_are_refused(run, photos, refused):
    network, metadata = mgd.load_network(run / "student.safetensors")
    torch.save(network.state_dict(), "net.pth")
    plain = metadata.to_plain() | {"classes": ["one", "two"]}
    Path("net.json").write_text(json.dumps(plain))
    line = refused("predict", photos / "valid", "--model", "net.pth")
    assert "'net.pth' names 2 classes, but its weights have 4 outputs" in line


def test_a_file_that_says_nothing_needs_its_network_and_is_warned_of(
    run, photos, told, refused, caplog
):
    network, _ = mgd.load_network(run / "student.safetensors")
    torch.save(network.state_dict(), "net.pth")
    words = ["predict", photos / "valid" / "one", "--model", "net.pth"]
    assert "does not say which network it is of; name it with --arch" in refused(*words)
    lines = told(*words, "--arch", "cifar_resnet8_x0_5", "-k", 1)
    assert all(line.split()[-3] in "0123" for line in lines)
    assert "does not say its classes, nor how it sees an image; assumed: 32 px" in caplog.text


def test_the_classes_are_those_of_the_training_folder(run, photos, told):
    lines = told("predict", photos / "valid", "--model", run, "--format", "csv")
    assert {row["class_1"] for row in rows("\n".join(lines))} <= CLASSES

"""Predictions: the same answers from a run and from every file that it is exported to."""

import json
import logging

import pytest
import torch

import mgd
from mgd.data.decode import decode
from mgd.engine import predict as module
from mgd.engine.loop.checkpoint import save_weights
from mgd.engine.predict import predict
from mgd.engine.run import train
from mgd.errors import InputError
from mgd.models import to_onnx, to_pt2

ARCH = "cifar_resnet8_x0_25"


@pytest.fixture(scope="module")
def made(tmp_path_factory, scans):
    """A run folder on three digits, its exported files, and images in no order."""
    from PIL import Image

    from mgd.engine.options.config import RunConfig

    home = tmp_path_factory.mktemp("made")
    images, labels = scans
    for label, name in enumerate(("nought", "one", "two")):
        for number, image in enumerate(images[labels == label][:10]):
            folder = home / "images" / ("train" if number < 6 else "valid") / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number}.png")
    config = RunConfig().replace(
        **{"data": str(home / "images"), "arch": ARCH, "size": 8, "augment": "none"},
        **{"mean": (0.3, 0.3, 0.3), "batch_size": 6, "epochs": 8, "workers": 0},
        **{"tensorboard": 0, "output": str(home), "experiment": "run"},
    )
    folder = train(config).folder
    network, metadata = mgd.load_network(folder / "student.safetensors")
    save_weights(network, home / "net.safetensors", metadata)
    torch.save(network.state_dict(), home / "net.pth")
    (home / "net.json").write_text(json.dumps(metadata.to_plain()))
    for suffix, write in (("pt2", to_pt2), ("onnx", to_onnx)):
        with (home / f"net.{suffix}").open("wb") as file:
            write(network, metadata, file)
    return home


@pytest.fixture
def files(made):
    found = sorted(map(str, (made / "images" / "valid").rglob("*.png")))
    return found[::-2] + found[::2]


def answers(files, model, **options):
    return list(predict(files, model, **options))


def assert_same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        assert one.image == other.image
        assert [name for name, _ in one.classes] == [name for name, _ in other.classes]
        shares = [[share for _, share in each.classes] for each in (one, other)]
        assert shares[0] == pytest.approx(shares[1], abs=1e-5)


def test_the_answers_are_the_softmax_of_what_the_network_is_shown(made, files):
    network, metadata = mgd.load_network(made / "run" / "student.safetensors")
    assert metadata.view.mean == (0.3, 0.3, 0.3)
    found = answers(files, made / "run")
    with torch.no_grad():  # one batch, as there: an image alone is rounded otherwise
        shown = torch.stack([metadata.view(decode(each.image)) for each in found])
        shares = network(shown).softmax(1).tolist()
    for each, own in zip(found, shares, strict=True):
        wanted = sorted(zip(metadata.classes, own, strict=True), key=lambda pair: -pair[1])
        assert [name for name, _ in each.classes] == [name for name, _ in wanted]
        assert [share for _, share in each.classes] == pytest.approx(
            [share for _, share in wanted], abs=1e-6
        )


def test_the_trained_network_is_mostly_right(made, files):
    right = [each.classes[0][0] in each.image.split("/") for each in answers(files, made / "run")]
    assert sum(right) > len(right) / 2


@pytest.mark.parametrize(
    "name",
    [
        *("run/student.safetensors", "run/best.ckpt"),
        *("net.safetensors", "net.pth", "net.pt2", "net.onnx"),
    ],
)
def test_every_file_gives_the_answers_of_the_run(made, files, name):
    assert_same(answers(files, made / name), answers(files, made / "run"))


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 5}, {"workers": 2}])
def test_the_order_of_the_files_is_kept_whatever_the_batches(made, files, options):
    found = answers(files, made / "run", **options)
    assert [each.image for each in found] == files
    assert_same(found, answers(files, made / "run"))


def test_images_are_read_as_they_are_asked_for(made, files, monkeypatch):
    """A batch is answered before the next is read."""
    read = []
    load = module.FolderSplit.image
    monkeypatch.setattr(
        module.FolderSplit, "image", lambda *given: read.append(given[1]) or load(*given)
    )
    next(predict(files, made / "run", batch_size=2))
    assert read == [0, 1]


@pytest.mark.parametrize(("top_k", "shown"), [(1, 1), (2, 2), (3, 3), (50, 3)])
def test_no_more_classes_are_named_than_there_are(made, files, top_k, shown):
    for each in answers(files, made / "run", top_k=top_k):
        assert len(each.classes) == shown
        shares = [share for _, share in each.classes]
        assert shares == sorted(shares, reverse=True)
        assert shown < 3 or sum(shares) == pytest.approx(1.0)


def test_foreign_weights_have_numbers_for_names_and_what_is_assumed_is_said(
    made, files, tmp_path, caplog
):
    torch.save(mgd.create_model(ARCH, 4).state_dict(), tmp_path / "foreign.pth")
    with caplog.at_level(logging.WARNING):
        found = answers(files, tmp_path / "foreign.pth", arch=ARCH)
    assert {name for each in found for name, _ in each.classes} == set("0123")
    assert "does not say its classes, nor how it sees an image; assumed: 32 px" in caplog.text


def test_foreign_weights_need_the_name_of_their_network(tmp_path, files):
    torch.save(mgd.create_model(ARCH, 4).state_dict(), tmp_path / "foreign.pth")
    with pytest.raises(InputError, match="name it with `arch`"):
        answers(files, tmp_path / "foreign.pth")


def test_names_that_are_not_those_of_the_outputs_are_one_line(made, files, tmp_path):
    network, metadata = mgd.load_network(made / "net.safetensors")
    forged = mgd.Metadata(arch=ARCH, classes=("a", "b"), view=metadata.view)
    with (tmp_path / "net.pt2").open("wb") as file:
        to_pt2(network, forged, file)
    with pytest.raises(InputError, match=r"net\.pt2' names 2 classes, but has 3 outputs; export"):
        answers(files, tmp_path / "net.pt2")


def test_an_image_that_cannot_be_read_is_named(made, files, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(InputError, match=r"text\.png"):
        answers([*files, str(tmp_path / "text.png")], made / "run")


def test_of_no_images_there_are_no_answers(made):
    assert answers([], made / "run") == []


def test_a_run_without_an_epoch_is_one_line(made, files, tmp_path):
    (tmp_path / "args.yaml").write_text("arch: net")
    with pytest.raises(InputError, match=r"student\.safetensors' do not exist"):
        answers(files, tmp_path)

"""Teachers that cannot answer with the run's classes: their features teach, and a line says why."""

import logging

import pytest
import torch
from torch import nn

import mgd
from engine.tasks.test_classifiers import ARCH, CLASSES, build, code, teacher
from mgd.engine.loop.opening import held
from mgd.engine.loop.runlog import Reporter
from mgd.engine.run import train
from mgd.errors import InputError


class Features(nn.Module):
    """A backbone that returns what it was told to, and no scores of classes."""

    returned = "tuple"

    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.stage = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())

    def forward(self, images):
        maps = self.stage(self.stem(images))
        kinds = {"tuple": (maps, None), "dict": {"features": maps}, "maps": maps}
        return {**kinds, "vector": maps.mean((2, 3))}[self.returned]


class FeaturesInDict(Features):
    returned = "dict"


class Maps(Features):
    returned = "maps"


class Vector(Features):
    returned = "vector"


WITHOUT_SCORES = {
    Features: "it returns a tuple without scores",
    FeaturesInDict: "it returns a dict without scores",
    Maps: "its outputs are (16, 56, 56), and no scores of the 3 classes",
    Vector: "its outputs are (16,), and no scores of the 3 classes",
}


@pytest.mark.parametrize(("kind", "reason"), WITHOUT_SCORES.items())
def test_own_code_without_scores_teaches_by_its_features(kind, reason, caplog):
    caplog.set_level(logging.WARNING)
    found = teacher(teacher=code(kind))
    assert found.no_answers == reason
    assert found.weights == "weights of its own code"
    assert "random weights" not in caplog.text


@pytest.mark.parametrize("options", [{"mgd_with_kd": 1}, {"distiller": "kd"}])
def test_it_is_refused_where_its_answers_are_asked_for(options):
    with pytest.raises(InputError, match=r"cannot answer: it returns a tuple .*distiller=mgd"):
        teacher(teacher=code(Features), **options)


@pytest.fixture
def headless(tmp_path):
    """The file of a backbone: all weights but those of the last layer."""
    state = mgd.create_model(ARCH, 3).state_dict()
    last = [key for key in state if key.startswith("linear") or key.startswith("fc")]
    assert last
    torch.save({k: v for k, v in state.items() if k not in last}, tmp_path / "backbone.pth")
    return str(tmp_path / "backbone.pth"), state


def test_a_file_without_the_last_layer_gives_features(headless):
    path, state = headless
    found = teacher(teacher_resume=path)
    assert found.no_answers.startswith("its file has no last layer (")
    assert torch.equal(found.network.state_dict()["conv1.weight"], state["conv1.weight"])


def test_a_file_that_lacks_another_layer_as_well_is_refused(headless):
    path, _ = headless
    state = torch.load(path)
    del state["conv1.weight"]
    torch.save(state, path)
    with pytest.raises(InputError, match=r"missing in the file: .*conv1\.weight"):
        teacher(teacher_resume=path)


def test_weights_published_without_classes_give_features(monkeypatch):
    monkeypatch.setattr("mgd.engine.tasks.teacher.published_classes", lambda name: 0)
    monkeypatch.setattr(
        "mgd.engine.tasks.teacher.create_model", lambda name, k, weights: mgd.create_model(name, k)
    )
    assert teacher(use_pretrained=None).no_answers == (
        "its weights were published without a last layer for classes"
    )


class Heard(Reporter):
    def __init__(self):
        self.lines = []

    def message(self, text):
        self.lines.append(text)


def test_a_run_says_what_its_teacher_holds_and_that_only_its_features_teach(image_folder, fast_run):
    heard = Heard()
    config = fast_run.replace(
        data=str(image_folder), train_images=0, batch_size=6, epochs=1, distiller="mgd",
        arch="cifar_resnet8_x0_25", teacher=code(Vector), size=16, teacher_size=16,
    )  # fmt: skip
    assert train(config, heard).best["epoch"] == 0
    text = " ".join(" ".join(heard.lines).split())
    assert "weights of its own code" in text
    assert "only its features teach: its outputs are (16,)" in text
    network = Vector(3)
    assert f"holds {held(network).removeprefix('holds ')}" in text


def test_what_is_held_is_the_sum_of_parameters_and_buffers():
    network = nn.Sequential(nn.Linear(1000, 2000), nn.BatchNorm1d(2000)).half()
    parameters = 1000 * 2000 + 2000 + 2 * 2000
    megabytes = 2 * (parameters + 2 * 2000) / 1e6  # the norm has two buffers of that size
    assert held(network) == f"holds {megabytes:.1f} MB: {parameters / 1e6:.1f} M parameters"


def test_the_library_takes_any_output_where_the_logits_are_left_out():
    student = mgd.create_model(ARCH, len(CLASSES))
    images = torch.randn(4, 3, 32, 32)
    for kind in WITHOUT_SCORES:
        with mgd.Distiller(kind(3), student, images) as distiller:
            assert torch.isfinite(distiller(images).loss).all()
    with pytest.raises(InputError, match="set `kd_weight` to 0"):
        mgd.Distiller(Features(3), student, images, kd_weight=1.0)


def test_a_student_without_scores_is_refused():
    with pytest.raises(InputError, match="no class scores are known"):
        build(arch=code(Features)).student.logits(torch.zeros(1, 3, 32, 32))

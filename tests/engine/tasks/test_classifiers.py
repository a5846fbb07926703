"""Networks of a run: which view each gets, and whose classes its outputs are."""

import logging
from types import SimpleNamespace

import pytest
import torch
import torchvision
from torch import nn

import mgd
from mgd.engine.loop.checkpoint import save_weights
from mgd.engine.options.config import RunConfig
from mgd.engine.tasks.classifiers import build_classifiers, with_names
from mgd.errors import InputError

ARCH = "cifar_resnet8_x0_25"
CLASSES = ("a", "b", "c")
KEPT = mgd.View((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 12, crop="border", crop_pct=0.75)
CPU = torch.device("cpu")
IMAGES = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(2))


class Code(nn.Sequential):
    """A network of the user's own."""

    def __init__(self, num_classes):
        super().__init__(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.append(nn.Linear(4, num_classes))


class CodeOfTimm(Code):
    """One that says how it sees an image, as a network of timm does."""

    def __init__(self, num_classes):
        super().__init__(num_classes)
        halves = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
        self.pretrained_cfg = {
            **halves,
            "input_size": (3, 40, 40),
            "interpolation": "bicubic",
            "crop_pct": 0.9,
        }


@pytest.fixture
def file(tmp_path):
    """Writes the weights of a network of classes; returns its path."""

    def write(classes=CLASSES, view=KEPT, arch=ARCH, name="kept.safetensors"):
        network = mgd.create_model(arch, len(classes))
        metadata = mgd.Metadata(arch=arch, classes=tuple(classes), view=view)
        save_weights(network, tmp_path / name, metadata)
        return str(tmp_path / name)

    return write


@pytest.fixture
def foreign(tmp_path):
    """Weights that say nothing of themselves."""
    torch.save(mgd.create_model(ARCH, 3).state_dict(), tmp_path / "foreign.pth")
    return str(tmp_path / "foreign.pth")


def build(classes=CLASSES, augment="auto", **options):
    config = RunConfig().replace(**{"arch": ARCH, "distiller": "none", **options})
    return build_classifiers(with_names(config), classes, augment, CPU)


def student(**options):
    return build(**options).student


def teacher(**options):
    options = {"teacher": ARCH, "distiller": "mgd", "mgd_with_kd": 0, **options}
    return build(**options).teacher


def code(kind):
    return f"{kind.__module__}:{kind.__name__}"


# Views.


def test_a_view_comes_from_flags_before_the_file_before_the_published_network(file):
    published = mgd.View.from_network(ARCH)
    assert student().view == published
    assert student(student_resume=file()).view == KEPT
    given = student(student_resume=file(), size=20, crop="squash", mean=(0.5, 0.5, 0.5))
    assert given.view == KEPT.replace(size=20, crop="squash", mean=(0.5, 0.5, 0.5))
    assert given.view_from == "kept with its weights, but for size, mean, crop"


@pytest.mark.parametrize(
    ("arch", "size"), [(ARCH, 32), ("resnet18", 224), ("mobilenet_v1", 224), (code(Code), 224)]
)
def test_auto_is_the_size_of_the_network(arch, size):
    assert student(arch=arch).view.size == size


def test_own_code_that_says_its_view_is_believed_and_other_code_gets_imagenets():
    assert student(arch=code(CodeOfTimm)).view == mgd.View(
        (0.5,) * 3, (0.5,) * 3, 40, "bicubic", 0.9
    ).replace(crop="squash", crop_pct=1.0)  # at 40 px the random changes show the whole image
    assert student(arch=code(CodeOfTimm), augment="imagenet").view.crop_pct == 0.9
    assert student(arch=code(Code)).view == mgd.View()


@pytest.mark.parametrize(
    ("augment", "size", "crop"),
    [
        ("auto", 40, ("squash", 1.0)),
        ("auto", 41, ("center", 0.875)),
        ("cifar", 224, ("squash", 1.0)),
        ("shift", 224, ("squash", 1.0)),
        ("none", 224, ("squash", 1.0)),
        ("imagenet", 32, ("center", 0.875)),
    ],
)
def test_the_whole_image_is_evaluated_where_training_shows_the_whole(augment, size, crop):
    view = student(arch="resnet18", augment=augment, size=size).view
    assert (view.crop, view.crop_pct) == crop


def test_a_crop_that_is_kept_or_given_is_not_changed(file):
    assert student(student_resume=file(), augment="cifar").view == KEPT
    given = student(arch="resnet18", augment="cifar", crop="border").view
    assert (given.crop, given.crop_pct) == ("border", 0.875)
    given = student(arch="resnet18", augment="cifar", crop_pct=0.5).view
    assert (given.crop, given.crop_pct) == ("center", 0.5)


def test_a_teachers_file_is_before_the_students_flags(file):
    assert teacher(teacher_resume=file(), size=20).view == KEPT


def test_weights_of_unknown_origin_get_the_size_and_crop_that_were_given(foreign):
    found = teacher(teacher_resume=foreign, size=20, crop="center", crop_pct=0.5)
    assert (found.view.size, found.view.crop, found.view.crop_pct) == (20, "center", 0.5)
    assert found.view_from == "size and crop as the student's"


def test_weights_of_unknown_origin_are_published_ones_where_no_size_is_given(foreign):
    assert teacher(teacher_resume=foreign).view == mgd.View.from_network(ARCH)
    view = teacher(teacher="resnet18", use_pretrained=0, augment="shift").view
    assert (view.size, view.crop, view.crop_pct) == (224, "squash", 1.0)


@pytest.fixture
def published(monkeypatch):
    """Published weights of torchvision without a download: random ones, for 1000 classes."""

    def state(weights, *arguments, **options):
        name = type(weights).__name__.removesuffix("_Weights").lower()
        return torchvision.models.get_model(name).state_dict()

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", state)


@pytest.mark.usefixtures("published")
def test_published_weights_keep_their_own_size_whatever_the_students():
    found = teacher(teacher="resnet18", size=32, augment="cifar")
    assert found.view == mgd.View()
    assert found.view_from == "as published"


def test_the_teachers_flags_are_the_teachers_alone(file):
    options = {
        "teacher_size": 24,
        "teacher_mean": (0.5, 0.5, 0.5),
        "teacher_std": (0.25, 0.25, 0.25),
        "teacher_interpolation": "bicubic",
        "teacher_crop": "squash",
        "teacher_crop_pct": 1.0,
        "teacher_colour": "BGR",
    }
    wanted = mgd.View((0.5,) * 3, (0.25,) * 3, 24, "bicubic", 1.0, "squash", "BGR")
    options |= {"teacher": ARCH, "distiller": "mgd", "teacher_resume": file()}
    both = build(**options)
    assert both.teacher.view == wanted
    assert both.student.view == mgd.View.from_network(ARCH)


@pytest.mark.parametrize(("option", "whose"), [("mean", "student"), ("teacher_mean", "teacher")])
def test_a_view_that_cannot_be_says_whose_it_is(option, whose, foreign):
    options = {"distiller": "mgd", "teacher": ARCH, "teacher_resume": foreign}
    with pytest.raises(InputError, match=f"the {whose}'s view: `mean`"):
        build(**options, **{option: (0.5, 0.5)})


# Classes.


def test_a_teachers_outputs_are_asked_for_by_name(file):
    path = file(("c", "a", "b"))
    found = teacher(teacher_resume=path)
    network, _ = mgd.load_network(path)
    with torch.no_grad():
        wanted = network(IMAGES)[:, [1, 2, 0]]
        assert torch.equal(found.network.eval() and found.logits(IMAGES), wanted)


def test_of_a_teacher_that_knows_more_its_columns_are_asked(file):
    found = teacher(teacher_resume=file(("z", "c", "y", "a", "b")))
    assert found.columns.tolist() == [3, 4, 1]
    assert not found.no_answers


def test_the_same_classes_need_no_columns(file):
    assert teacher(teacher_resume=file()).columns is None


OTHER = ("a", "b", "cat")


@pytest.mark.parametrize(
    "options", [{"mgd_with_kd": 1}, {"distiller": "kd"}, {"distiller": "ofd", "mgd_with_kd": 1}]
)
def test_a_teacher_of_other_classes_is_refused_for_kd_with_both_lists(file, options):
    with pytest.raises(InputError, match=r"cannot answer: it does not know 1 of the classes") as e:
        teacher(teacher_resume=file(OTHER), **options)
    assert "the network has 3: a, b, cat; the data has 3: a, b, c" in str(e.value)


def test_a_teacher_of_other_classes_is_refused_in_an_evaluation(file):
    options = {"evaluate": True, "student_resume": file()}
    with pytest.raises(InputError, match="the network has 3: a, b, cat; the data has 3: a, b, c"):
        teacher(teacher_resume=file(OTHER, name="other.safetensors"), **options)


def test_the_features_of_a_teacher_of_other_classes_may_teach(file):
    found = build(distiller="mgd", mgd_with_kd=0, teacher_resume=file(OTHER))
    assert "does not know 1 of the classes" in found.teacher.no_answers
    assert found.answering_teacher is None


def test_many_classes_are_not_all_listed(file):
    many = [f"class{number:04}" for number in range(1000)]
    with pytest.raises(InputError) as caught:
        build(many, teacher_resume=file(OTHER), distiller="kd")
    assert "the data has 1000: class0000, " in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_student_keeps_the_order_of_its_file(file):
    path = file(("c", "a", "b"))
    found = build(student_resume=path)
    assert found.classes == ("c", "a", "b") == found.metadata.classes
    network, _ = mgd.load_network(path)
    assert torch.equal(found.student.network.eval()(IMAGES), network(IMAGES))


@pytest.mark.parametrize("arch", [ARCH, code(Code)])
def test_as_many_other_classes_get_a_new_head_and_the_log_says_so(file, caplog, arch):
    path = file(OTHER, arch=arch)
    found = build(student_resume=path, arch=arch)
    old = mgd.load_network(path, arch)[0].state_dict()
    new = found.student.network.state_dict()
    changed = {key for key in old if not torch.equal(old[key], new[key])}
    assert len(changed) == 2
    assert all(key in caplog.text for key in changed)
    assert "its classes are others, so its head is made anew" in caplog.text
    assert found.classes == CLASSES


class CodeThatCounts(Code):
    """It computes with the values of tensors while it is built, as stochastic depth does."""

    def __init__(self, num_classes):
        self.rates = [rate.item() for rate in torch.linspace(0, 1, 3)]
        super().__init__(num_classes)


def test_a_new_head_needs_no_device_that_own_code_does_not_know(file):
    arch = code(CodeThatCounts)
    assert build(student_resume=file(OTHER, arch=arch), arch=arch).classes == CLASSES


def test_a_new_head_does_not_depend_on_how_it_was_found(file):
    path = file(OTHER)
    torch.manual_seed(5)
    first = build(student_resume=path).student.network.state_dict()
    torch.manual_seed(5)
    network = mgd.create_model(ARCH, 3)
    assert torch.equal(network.state_dict()["linear.weight"], first["linear.weight"])
    drawn = torch.rand(1)
    torch.manual_seed(5)
    build(student_resume=path)
    assert torch.equal(torch.rand(1), drawn)


def test_a_measured_network_may_know_more_than_the_data(file):
    found = build(evaluate=True, student_resume=file(("z", "c", "a", "b")))
    assert found.classes == ("z", "c", "a", "b")
    assert found.student.columns is None


def test_a_measured_network_must_know_all_of_the_data(file):
    with pytest.raises(InputError, match="does not know the class 'c' of the data") as caught:
        build(evaluate=True, student_resume=file(OTHER))
    assert "the network has 3: a, b, cat; the data has 3: a, b, c" in str(caught.value)


def test_an_exported_network_is_not_trained(tmp_path, file):
    network, metadata = mgd.load_network(file())
    path = tmp_path / "net.pt2"
    with path.open("wb") as opened:
        mgd.models.to_pt2(network, metadata, opened)
    with pytest.raises(InputError, match="is an exported network: it can be run, but neither"):
        build(student_resume=str(path))
    with pytest.raises(InputError, match="is an exported network: it can be run, but neither"):
        teacher(teacher_resume=str(path))


# Heads made anew.


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("name", ["resnet18", "torchvision:resnet18"])
def test_published_weights_of_other_classes_do_not_answer(name):
    with pytest.raises(InputError, match="cannot answer: its weights were published for 1000") as e:
        teacher(teacher=name, distiller="kd")
    assert "last layer is made anew and random" in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.usefixtures("published")
def test_published_weights_of_other_classes_may_teach_their_features():
    found = build(distiller="mgd", mgd_with_kd=0, teacher="resnet18")
    assert "published for 1000 classes, the data has 3" in found.teacher.no_answers
    assert found.answering_teacher is None


@pytest.mark.usefixtures("published")
def test_published_weights_of_as_many_classes_answer():
    many = [str(number) for number in range(1000)]
    assert build(many, distiller="kd", teacher="resnet18").answering_teacher is not None


@pytest.mark.parametrize(("known", "answers"), [(1000, False), (3, True)])
def test_published_weights_of_timm_are_asked_for_their_classes(monkeypatch, known, answers):
    timm = pytest.importorskip("timm")
    build_without = timm.create_model

    def create(name, pretrained, num_classes):
        return build_without(name, pretrained=False, num_classes=num_classes)

    published = timm.get_pretrained_cfg

    def config(name, *arguments):
        found = published(name, *arguments)
        values = {"architecture": found.architecture, "tag": found.tag, "to_dict": found.to_dict}
        return SimpleNamespace(num_classes=known, **values)

    monkeypatch.setattr(timm, "create_model", create)
    monkeypatch.setattr(timm, "get_pretrained_cfg", config)
    found = teacher(teacher="timm:resnet10t")
    assert (not found.no_answers) is answers


def test_a_random_teacher_is_said_to_be_one(caplog):
    with caplog.at_level(logging.WARNING):
        found = teacher(use_pretrained=0)
    assert "the teacher has random weights" in caplog.text
    assert found.weights == "random weights"
    assert not found.no_answers


def test_the_largest_view_is_the_students_at_the_size_of_who_sees_most(file):
    found = build(distiller="mgd", teacher_resume=file(), student_resume="", size=8)
    assert found.largest_view == found.student.view.replace(size=12)
    found = build(distiller="mgd", teacher_resume=file(), size=16)
    assert found.largest_view == found.student.view

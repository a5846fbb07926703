"""The model card of a run: true, complete, and whole whatever the names are."""

import contextlib
import io
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from markdown_it import MarkdownIt  # which rich needs as well

import mgd
from mgd.cli.parser import RunParser
from mgd.engine.card.facts import Facts, base_model
from mgd.engine.card.loading import with_mgd, without_mgd
from mgd.engine.card.sections import again
from mgd.engine.card.text import card_text
from mgd.engine.loop.checkpoint import save_weights
from mgd.engine.loop.trainer import Trainer
from mgd.engine.options.config import RunConfig
from mgd.engine.run import train
from mgd.runfolder import RunResult
from photos import photos

RESULT = RunResult(
    best_epoch=2, valid_top1=90.0, valid_top5=99.0, trained_parameters=10, seconds=1.0
)
FACTS = Facts(
    folder=Path("runs/first"),
    arch="resnet18",
    pruned=False,
    view=mgd.View(),
    classes=("cat", "dog"),
    data="photos",
    train_images=80,
    unlabelled_images=0,
    valid_images=100,
    test_images=0,
    start="random weights",
    base_model="",
    method="none",
    reducer="amp",
    logit_loss="",
    teacher="",
    teacher_weights="",
    keeps_last=False,
    result=RESULT,
    options={"epochs": 3, "lr-drop-epochs": [31, 61]},
    changes=(),
)
TAUGHT = {"method": "mgd", "teacher": "resnet50", "teacher_weights": "big/student.safetensors"}


def card(**changes):
    return card_text(replace(FACTS, **changes))


def about(text):
    """Returns the front matter, and what follows."""
    _, front, rest = text.split("---\n", 2)
    return yaml.safe_load(front), rest


def tokens(text):
    return MarkdownIt("commonmark").enable("table").parse(about(text)[1])


def outline(text):
    """Returns the headings and the cells of tables in a card, without what they say."""
    kinds = [each.type for each in tokens(text)]
    return [kind for kind in kinds if kind.startswith(("heading", "table", "tr", "td", "th"))]


def code_in(text, language):
    return [each.content for each in tokens(text) if each.type == "fence" and each.info == language]


@pytest.fixture(scope="module")
def distilled(tmp_path_factory):
    """A run with a teacher, and what its card says."""
    config = RunConfig().replace(
        data="digits",
        size=8,
        arch="cifar_resnet8_x0_25",
        teacher="cifar_resnet8_x0_5",
        use_pretrained=0,
        distiller="mgd",
        mgd_with_kd=1,
        train_images=30,
        batch_size=10,
        epochs=2,
        workers=0,
        tensorboard=0,
        output=str(tmp_path_factory.mktemp("runs")),
        experiment="first",
    )
    folder = train(config).folder
    return folder, (folder / "MODEL_CARD.md").read_text()


def test_averaged_weights_and_an_early_end_are_told():
    text = card(result=replace(RESULT, stopped_after=7), options={"model-ema": True, "patience": 4})
    assert "those of the best epoch, number 3, averaged over the steps." in text
    assert "ended early, after 7 epochs, since the accuracy on the validation images" in text
    assert "became no better for 4 epochs." in text
    assert "averaged" not in card()
    assert "early" not in card()


def test_the_figures_are_those_of_the_run(distilled):
    folder, text = distilled
    result = json.loads((folder / "result.json").read_text())
    for row in (
        f"| student | validation | 300 | {result['valid_top1']:.1f} ± ",
        f"| student | test | 600 | {result['test_top1']:.1f} ± ",
        f"| teacher | test | 600 | {result['teacher_top1']:.1f} ± ",
    ):
        assert row in text
    assert f"the best epoch, number {result['best_epoch'] + 1}." in text
    assert "trained on 30 images with labels, 300 images to validate, 600 to test" in text
    assert "`digits`" in text
    assert "The teacher is `cifar_resnet8_x0_5` (`random weights`)." in text
    assert "and from its class scores (kd: Hinton et al. 2015)" in text
    assert "8 px, squash 100 %" in text


def test_the_lines_of_a_run_name_a_class(distilled, monkeypatch, tmp_path):
    folder, text = distilled
    photos()[1].save(folder / "photo.jpg")
    monkeypatch.chdir(folder)
    (lines,) = code_in(text, "python")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(lines, {})
    (folder / "photo.jpg").unlink()
    assert said.getvalue().strip() in list("0123456789")
    assert len(lines.splitlines()) == 7


def test_the_command_makes_the_same_run(distilled):
    folder, text = distilled
    (lines,) = code_in(text, "bash")
    program, command, *words = shlex.split(lines)
    assert (program, command) == ("mgd", "distill")
    config = RunParser("distill").read(words)
    told = yaml.safe_load((folder / "args.yaml").read_text())
    assert config.flat() == {**told, "experiment": "first-again"}


@pytest.mark.parametrize(
    "arch", ["resnet18", "torchvision:mobilenet_v2", "timm:resnet10t", "mine_for_card:net"]
)
def test_the_lines_without_this_package_load_the_weights(arch, tmp_path, monkeypatch):
    if arch.startswith("timm"):
        pytest.importorskip("timm")
    code = "import torchvision\ndef net(num_classes):\n"
    code += "    return torchvision.models.squeezenet1_1(num_classes=num_classes)\n"
    (tmp_path / "mine_for_card.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    network = mgd.create_model(arch, num_classes=2).eval()
    metadata = mgd.Metadata(arch=arch, classes=("cat", "dog"), view=mgd.View(size=64))
    save_weights(network, tmp_path / "student.safetensors", metadata)
    photos()[1].save("photo.jpg")
    lines, names, said = without_mgd(arch, 2), {}, io.StringIO()
    assert "mgd" not in lines
    exec(lines, names)
    for name, value in network.state_dict().items():
        assert names["network"].state_dict()[name].equal(value)
    with contextlib.redirect_stdout(said):
        exec(with_mgd(arch), {})
    assert said.getvalue().strip() in metadata.classes


def test_a_network_of_this_package_alone_says_so():
    assert without_mgd("cifar_resnet8", 2) == without_mgd("hf:some/network", 2) == ""
    assert "cannot be loaded without it" in card(arch="cifar_resnet8")


def test_a_run_without_a_teacher_has_none_in_its_card():
    text = card()
    assert "was trained on its own, without a teacher." in text
    assert "| teacher" not in text
    assert "teacher's weights" not in text
    assert "Citation" not in text
    assert again(FACTS) == "mgd train -c runs/first/args.yaml --experiment first-again"
    assert about(text)[0]["tags"] == ["image-classification", "pytorch"]
    assert "| student | validation | 100 | 90.0 ± 3.0 % |\n" in text
    assert "a little too good" in text


def test_the_last_epoch_was_not_chosen():
    text = card(keeps_last=True)
    assert "those of the last epoch, number 3." in text
    assert "too good" not in text


def test_agreement_is_no_accuracy():
    result = replace(RESULT, valid_is_agreement=1)
    text = card(result=result, train_images=0, unlabelled_images=500, **TAUGHT)
    assert "| student | held out, agreement with the teacher | 100 | 90.0 ± 3.0 %" in text
    assert "it is no accuracy" in text
    assert "trained on 500 without labels" in text
    assert "The accuracy of the teacher was not measured." in text
    assert "too good" not in text


def test_a_teacher_is_on_the_images_that_it_was_measured_on():
    tested = replace(RESULT, test_top1=80.0, test_top5=98.0, teacher_top1=95.0, teacher_top5=99.0)
    text = card(result=tested, test_images=50, **TAUGHT)
    assert "| teacher | test | 50 | 95.0 ±" in text
    untested = replace(RESULT, teacher_top1=95.0, teacher_top5=99.0)
    assert "| teacher | validation | 100 | 95.0 ±" in card(result=untested, **TAUGHT)


def test_hugging_face_reads_what_it_expects():
    front, _ = about(card(**TAUGHT))
    assert front == {
        "library_name": "matching-guided-distillation",
        "pipeline_tag": "image-classification",
        "tags": [
            "image-classification",
            "pytorch",
            "knowledge-distillation",
            "matching-guided-distillation",
        ],
        "metrics": ["accuracy"],
    }
    assert about(card(base_model="timm/resnet10t.c3_in1k"))[0]["base_model"] == (
        "timm/resnet10t.c3_in1k"
    )


@pytest.mark.parametrize(
    ("options", "base"),
    [
        ({"arch": "timm:resnet10t", "use_pretrained": 1}, "timm/resnet10t.c3_in1k"),
        ({"arch": "timm:resnet10t", "pretrained": True}, "timm/resnet10t.c3_in1k"),
        ({"arch": "timm:resnet10t"}, ""),
        ({"arch": "timm:resnet10t", "use_pretrained": 1, "student_resume": "other.pth"}, ""),
        ({"arch": "resnet18", "use_pretrained": 1}, ""),
        (
            {"arch": "hf:facebook/convnext-tiny-224", "use_pretrained": 1},
            "facebook/convnext-tiny-224",
        ),
        ({"arch": "hf:mine", "use_pretrained": 1}, ""),
    ],
)
def test_a_base_model_is_named_only_where_its_weights_were_loaded(
    options, base, tmp_path, monkeypatch
):
    (tmp_path / "mine").mkdir()  # a folder, which is on no hub
    monkeypatch.chdir(tmp_path)
    timm = pytest.importorskip("timm")
    is_timm = options["arch"].startswith("timm")
    network = timm.create_model("resnet10t") if is_timm else torch.nn.Identity()
    assert base_model(RunConfig().replace(**options), network) == base


@pytest.mark.parametrize(
    "name",
    [
        "a `b` c",
        "``` fence",
        "`",
        "new\n\n# heading\n---\nline",
        "| a | b |",
        "<script>alert(1)</script>",
        "[link](javascript:alert(1))",
        "*bold* _x_ ~~~",
        'it\'s "quoted": {yaml} [x] # no comment',
        "colour\x1b[31m\x00",
        "half\udcff",
        "   ",
        "\u202eturned",
    ],
)
def test_a_name_stays_a_name(name):
    plain = card(**TAUGHT)
    text = card(
        folder=Path("runs", name.replace("/", "-").replace("\x00", "")),
        arch=name,
        classes=(name, "dog"),
        data=name,
        start=name,
        base_model=name,
        options={"points": name, "lr-drop-epochs": [31]},
        **{**TAUGHT, "teacher": name, "teacher_weights": name},
    )
    text.encode()
    assert about(text)[0]["pipeline_tag"] == "image-classification"
    kinds = [each.type for each in tokens(text)]
    assert outline(text) == outline(plain)
    assert "html_block" not in kinds
    for each in tokens(text):
        children = {child.type for child in each.children or ()}
        assert children <= {"text", "code_inline", "softbreak", "strong_open", "strong_close"}
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x1b\u202e]", text)


def test_a_card_is_there_when_the_run_has_ended_and_not_before(fast_run, monkeypatch):
    path = Path(fast_run.output.output, "run", "MODEL_CARD.md")
    seen, run_epoch = [], Trainer._run_epoch

    def watched(self, *arguments):
        seen.append(path.exists())
        return run_epoch(self, *arguments)

    monkeypatch.setattr(Trainer, "_run_epoch", watched)
    config = fast_run.replace(experiment="run", epochs=1)
    train(config)
    assert path.exists()
    train(config.replace(resume="auto", epochs=2))
    assert seen == [False, False]
    text = path.read_text()
    assert "resumed with other options in epoch 2, after 0 steps: epochs from `1` to `2`." in text
    assert "- epochs: `2`" in text


def test_a_label_free_run_has_its_card(fast_run, image_folder, tmp_path):
    big = fast_run.replace(
        data=str(image_folder), train_images=0, epochs=1, augment="none", experiment="big"
    )
    teacher = train(big).folder
    config = big.replace(
        data=str(image_folder / "train"),
        label_free=True,
        distiller="kd",
        teacher_resume=str(teacher),
        teacher="",
        experiment="free",
    )
    text = (train(config).folder / "MODEL_CARD.md").read_text()
    assert "held out, agreement with the teacher" in text
    assert "The teacher is `cifar_resnet8_x0_25` (`big/student.safetensors`)." in text
    assert "learned from the class scores of its teacher (kd: Hinton et al. 2015)" in text
    assert "3 classes, in the order of the outputs: `nought`, `one`, `two`." in text


def test_five_classes_or_fewer_have_no_top5():
    assert "top-5" not in card(classes=tuple("abcde"))
    many = card(classes=tuple("abcdef"))
    assert "| network | images | how many | top-1 | top-5 |" in many
    assert "| student | validation | 100 | 90.0 ± 3.0 % | 99.0 % |" in many

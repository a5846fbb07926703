"""Options of few labels and none: what goes together, and how the folders are given."""

import pytest
import yaml

from mgd.cli.parser import RunParser
from mgd.engine.options.config import RunConfig
from mgd.errors import InputError


def read(*words):
    return RunParser("distill").read(list(words))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"unlabelled_batch": 4}, r"`unlabelled_batch` \(=4\) has no effect without `unlabelled`"),
        ({"unlabelled": ("x",), "distiller": "none"}, "`unlabelled` needs a teacher"),
        ({"label_free": True, "distiller": "none"}, "`label_free` needs a teacher"),
        ({"label_free": True, "mgd_with_kd": 0}, "`label_free` needs the loss on the logits"),
        (
            {"label_free": True, "unlabelled": ("x",)},
            "`unlabelled` has no effect with `label_free`",
        ),
        ({"label_free": True, "train_images": 9}, "`train_images` has no effect with `label_free`"),
        ({"ce_weight": 0, "mgd_with_kd": 0}, "`ce_weight=0` needs the loss on the logits"),
        ({"ce_weight": -1}, "`ce_weight`.*at least 0"),
        ({"unlabelled_batch": -1}, "`unlabelled_batch`.*at least 0"),
        ({"label_free": True, "label_smoothing": 0.1}, "`label_smoothing=0.1` has no effect with"),
        ({"label_free": True, "class_weights": "balanced"}, "`class_weights=balanced` has no"),
        ({"label_free": True, "balanced_sampling": True}, "`balanced_sampling` has no effect with"),
        ({"ce_weight": 0, "label_smoothing": 0.1}, "no effect with `ce_weight=0`"),
        ({"ce_weight": 0, "class_weights": "balanced"}, "no effect with `ce_weight=0`"),
        ({"class_weights": "balanced", "balanced_sampling": True}, "give one of them"),
        ({"mixup_alpha": 0.2, "kd": "dkd"}, "`mixup_alpha` gives an image several classes"),
        ({"cutmix_alpha": 1, "kd": "dkd"}, "`cutmix_alpha` gives an image several classes"),
        ({"label_smoothing": 1.5}, "`label_smoothing`.*from 0 to 1"),
        ({"random_erase": -0.1}, "`random_erase`.*from 0 to 1"),
        ({"mixup_alpha": -1}, "`mixup_alpha`.*at least 0"),
    ],
)
def test_what_does_not_go_together_is_refused(values, reason):
    with pytest.raises(InputError, match=reason):
        RunConfig().replace(**{"data": "x", "distiller": "mgd", "mgd_with_kd": 1, **values})


@pytest.mark.parametrize(
    "values",
    [
        {"ce_weight": 0, "mgd_with_kd": 1},
        {"ce_weight": 0, "distiller": "kd"},
        {"label_free": True, "distiller": "kd"},
        {"unlabelled": ("x",), "unlabelled_batch": 3},
        {"ce_weight": 0, "distiller": "none"},
        {"ce_weight": 0, "distiller": "none", "label_smoothing": 0.1},
        {"ce_weight": 0, "distiller": "kd", "balanced_sampling": True, "mixup_alpha": 0.2},
        {"label_free": True, "distiller": "kd", "mixup_alpha": 0.2, "auto_augment": "ra"},
        {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "class_weights": "balanced"},
        {"mixup_alpha": 0.2, "kd": "dkd", "distiller": "none"},
        {"label_free": True, "label_smoothing": 0.1, "evaluate": True, "student_resume": "x"},
    ],
)
def test_what_goes_together_is_taken(values):
    RunConfig().replace(**{"data": "x", "distiller": "mgd", **values})


def test_without_labels_the_logits_teach_unless_said_otherwise():
    words = ["photos", "--teacher", "resnet18", "--label-free"]
    assert read(*words).distillation.mgd_with_kd == 1
    assert read(*words, "--distiller", "kd").distillation.distiller == "kd"
    with pytest.raises(InputError, match="needs the loss on the logits"):
        read(*words, "--mgd-with-kd", "0")
    with pytest.raises(InputError, match="`label_free` needs a teacher"):
        read(*words, "--distiller", "none")


FOLDERS = ["my photos, old", "b", "-c"]


def test_the_option_is_repeated_and_takes_any_path():
    words = [f"--unlabelled={folder}" for folder in FOLDERS]
    assert read(*words, "photos").data.unlabelled == tuple(FOLDERS)
    found = read("--unlabelled", "a b", "photos", "--unlabelled", "c,d")
    assert (found.data.data, found.data.unlabelled) == ("photos", ("a b", "c,d"))


def test_a_file_keeps_the_folders_and_the_command_line_wins(tmp_path):
    given = read("photos", *(f"--unlabelled={folder}" for folder in FOLDERS))
    path = tmp_path / "args.yaml"
    path.write_text(yaml.safe_dump(given.flat()))
    assert read("-c", str(path)) == given
    assert read("-c", str(path), "--unlabelled", "x").data.unlabelled == ("x",)
    path.write_text("data: photos\nunlabelled: one folder\n")
    assert read("-c", str(path)).data.unlabelled == ("one folder",)
    path.write_text("data: photos\nunlabelled: [1, 'a, b']\n")
    assert read("-c", str(path)).data.unlabelled == ("1", "a, b")
    path.write_text("data: photos\nunlabelled: []\n")
    assert read("-c", str(path)).data.unlabelled == ()

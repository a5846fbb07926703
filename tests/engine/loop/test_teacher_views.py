"""Fixed views: the teacher runs once for each, and what is kept is what it would say."""

import json
from pathlib import Path

import pytest
import torch
from lightning_fabric.strategies.dp import DataParallelStrategy

import mgd
from engine.loop.test_one_crop import Run
from engine.loop.test_trainer import CutAt, PowerCutError, rows_of, same_state
from engine.loop.test_two_ranks import Heard
from mgd.engine.loop.checkpoint import load_checkpoint
from mgd.engine.loop.keeping import keep_teacher
from mgd.engine.run import train
from mgd.engine.tasks import answer_store, kept_teacher
from mgd.engine.tasks.kept_teacher import KeptTeacher
from mgd.errors import InputError

pytestmark = pytest.mark.usefixtures("few_digits")


@pytest.fixture
def views(fast_distillation):
    """Four epochs of three steps, with two views of each of 30 images."""
    return fast_distillation.replace(
        teacher_views=2, epochs=4, experiment="run", print_freq=1, checkpoint_every=1
    )


@pytest.fixture
def asked(monkeypatch):
    """How many images the teacher was asked about in each training step in which it ran."""
    asked = []

    def spy(distiller, images):
        asked.append(len(images))
        return mgd.method.answers.ask_teacher(distiller, images)

    monkeypatch.setattr(kept_teacher, "ask_teacher", spy)
    return asked


class AtEpochs(Heard):
    """Notes how often the teacher had been asked at the end of each epoch."""

    def __init__(self, asked):
        super().__init__()
        self.asked, self.counts = asked, []

    def end_epoch(self, record):
        self.counts.append(len(self.asked))


METHODS = [
    {"distiller": "kd"},
    {"distiller": "kd", "kd": "dkd"},
    {"distiller": "kd", "kd": "dist"},
    {"distiller": "kd", "kd": "standardised"},
    {"distiller": "mgd"},
    {"distiller": "mgd", "mgd_reducer": "rd", "mgd_update_freq": 2},
    {"distiller": "mgd", "mgd_tracking": "online", "mgd_images": 20},
    {"distiller": "mgd-adapter"},
    {"distiller": "ofd"},
    {"distiller": "fitnet"},
]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: "-".join(map(str, m.values())))
def test_the_teacher_rests_and_nothing_changes_but_by_rounding(views, asked, monkeypatch, method):
    """Compared with a teacher that runs in every step, on the same views."""
    # At a high rate steps multiply any difference.
    config = views.replace(**method, learning_rate=0.001)
    reporter = AtEpochs(asked)
    kept = rows_of(train(config, reporter).folder)
    assert reporter.counts == [3, 6, 6, 6]
    monkeypatch.setattr(
        KeptTeacher,
        "guide",
        lambda self, images, seen, track: self._distiller.guide(images, track),  # as without it
    )
    asking = rows_of(train(config.replace(experiment="asking")).folder)
    assert len(asked) == 6
    for found, wanted in zip(kept, asking, strict=True):
        for name in wanted:
            if name.startswith("loss"):
                assert float(found[name]) == pytest.approx(float(wanted[name]), rel=0.002), name


def test_without_views_each_epoch_shows_others(views, monkeypatch):
    seen = []
    losses = mgd.engine.tasks.distillation.DistillationTask.losses

    def spy(self, images, labels, labelled, keys):
        order = sorted(range(len(keys)), key=lambda n: keys[n][1])
        seen.append((sorted(keys), images[order]))
        return losses(self, images, labels, labelled, keys)

    monkeypatch.setattr(mgd.engine.tasks.distillation.DistillationTask, "losses", spy)
    shown = {}
    for number, count in enumerate((0, 2)):
        seen.clear()
        train(views.replace(teacher_views=count, batch_size=30, experiment=f"run-{number}"))
        assert [sorted({view for view, _ in keys}) for keys, _ in seen] == (
            [[0], [1], [0], [1]] if count else [[0], [1], [2], [3]]
        )
        shown[count] = [images for _, images in seen]
    same = [
        [bool(torch.equal(images[n], images[n - 2])) for n in (2, 3)] for images in shown.values()
    ]
    assert same == [[False, False], [True, True]]
    assert torch.equal(shown[0][1], shown[2][1])


@pytest.mark.parametrize("cut", [(0, 2), (1, None), (1, 1), (2, 2)])
@pytest.mark.parametrize("method", [{"distiller": "kd"}, {"mgd_tracking": "online"}])
def test_a_resumed_run_ends_as_if_nothing_had_happened(views, asked, method, cut):
    config = views.replace(**method)
    whole = train(config.replace(experiment="whole")).folder
    asked.clear()
    parted = config.replace(experiment="parted")
    with pytest.raises(PowerCutError):
        train(parted, CutAt(*cut))
    folder = train(parted.replace(resume="auto")).folder
    assert rows_of(folder) == rows_of(whole)
    states = (load_checkpoint(path / "last.ckpt") for path in (folder, whole))
    assert same_state(*states) == set()
    assert len(asked) <= 6 + (cut[0] < 2)  # a step after the last checkpoint is taken again


@pytest.fixture
def shared(views, tmp_path):
    """Runs that use one folder."""
    return views.replace(teacher_views_dir=str(tmp_path / "shared"), distiller="kd", epochs=2)


def test_another_run_with_the_same_key_never_asks(shared, asked):
    first = rows_of(train(shared).folder)
    assert len(asked) == 6
    assert rows_of(train(shared.replace(experiment="again")).folder) == first
    train(shared.replace(experiment="other", learning_rate=0.01, kd_temperature=4.0, batch_size=15))
    assert len(asked) == 6
    train(shared.replace(experiment="more", teacher_views=3, epochs=3))
    assert len(asked) == 9


def stored(config):
    """Returns the folder in which a run would keep its answers."""
    torch.manual_seed(0)  # the teacher's weights are random
    run = Run(config)
    keep_teacher(config, run.fabric, run.pipeline, run.task, Path("nowhere"))
    return run.task.kept.store.folder


CHANGES = [
    {"seed": 1},
    {"train_images": 20},
    {"holdout": 0.1},
    {"augment": "cifar"},
    {"auto_augment": "ra"},
    {"random_erase": 0.5},
    {"size": 16},
    {"teacher": "cifar_resnet8_x0_25"},
    {"teacher_size": 16},
    {"teacher_mean": (0.5, 0.5, 0.5)},
    {"teacher_crop": "border"},
    {"fold_teacher": 0},
    {"teacher_precision": "bf16"},
    {"precision": "bf16"},
    {"mgd_with_kd": 0, "distiller": "mgd"},
    {"distiller": "mgd"},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: "-".join(change))
def test_what_another_option_asks_for_is_kept_elsewhere(shared, change):
    assert stored(shared) == stored(shared)
    assert stored(shared.replace(**change)) != stored(shared)


def test_other_weights_taps_classes_and_packages_are_kept_elsewhere(shared, tmp_path, monkeypatch):
    found = [stored(shared.replace(distiller="mgd"))]
    weights = mgd.create_model("cifar_resnet8_x0_5", 10).state_dict()
    for number in range(2):
        weights["fc.bias" if "fc.bias" in weights else list(weights)[-1]][0] += number
        torch.save(weights, tmp_path / f"{number}.pth")
        found.append(stored(shared.replace(teacher_resume=str(tmp_path / f"{number}.pth"))))
    points = tmp_path / "points.yaml"
    points.write_text("- {teacher: layer1.0.relu, student: layer1.0.relu}\n")
    found.append(stored(shared.replace(distiller="mgd", points=str(points))))
    monkeypatch.setattr(torch, "__version__", "3.0.0")
    found.append(stored(shared))
    assert len(set(found)) == len(found)


def test_other_images_are_kept_elsewhere(shared, image_folder):
    config = shared.replace(data=str(image_folder), train_images=0)
    found = [stored(config)]
    assert stored(config) == found[0]
    image = image_folder / "train" / "one" / "3.png"
    content = image.read_bytes()
    image.write_bytes(content + b" ")
    found.append(stored(config))
    image.rename(image.with_name("30.png"))
    found.append(stored(config))
    (image_folder / "train" / "one" / "4.png").unlink()
    found.append(stored(config))
    assert len(set(found)) == len(found)


def test_a_teacher_that_has_changed_is_asked_again(shared, asked):
    train(shared)
    asked.clear()
    train(shared.replace(experiment="other", teacher_mean=(0.5, 0.5, 0.5)))
    assert len(asked) == 6


def test_a_run_says_what_it_keeps(views, asked):
    heard = Heard()
    folder = train(views.replace(distiller="kd"), heard).folder
    (line,) = [line for line in heard.messages if line.startswith("the teacher runs in 2 epochs")]
    (kept,) = (folder / "kept-answers").iterdir()
    assert line.endswith(f" GiB in '{kept}'")
    assert json.loads((kept / "key.json").read_text())["changes"]["seed"] == 42


def test_more_than_the_limit_is_refused_before_anything_is_written(views):
    config = views.replace(teacher_views_gib=0.0001)
    told = (
        r"30 images need 0\.00\d+ GiB, 0\.00\d+ of them for features, and .* allows 0\.0001; choose"
    )
    with pytest.raises(InputError, match=told):
        train(config)
    assert not list(Path(config.output.output).glob("*"))


def test_a_disk_without_room_is_told_of(views, monkeypatch):
    usage = answer_store.shutil.disk_usage(".")
    monkeypatch.setattr(answer_store.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(
        InputError, match=r"where 9\.31e-07 GiB are free; free some, or name another"
    ):
        train(views)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"mixup_alpha": 0.2}, "`teacher_views` (=2) contradicts `mixup_alpha`, which mixes"),
        ({"cutmix_alpha": 1.0}, "`teacher_views` (=2) contradicts `cutmix_alpha`, which mixes"),
        ({"balanced_sampling": True}, "contradicts `balanced_sampling`, with which an epoch does"),
        ({"unlabelled_batch": 4, "unlabelled": ("x",)}, "contradicts `unlabelled_batch`, with"),
        ({"parallel": "dp"}, "does not work with DataParallel (`parallel=dp`)"),
    ],
)
def test_what_has_no_fixed_views_is_refused(views, options, told):
    with pytest.raises(InputError) as caught:
        views.replace(**options)
    assert told in str(caught.value)


def test_without_a_teacher_there_are_no_fixed_views(views):
    config = views.replace(distiller="none", mixup_alpha=0.2)
    assert config.distillation.fixed_views == 0


def test_replicas_of_a_teacher_are_refused(views):
    run = Run(views)
    run.fabric._strategy = DataParallelStrategy()  # Fabric chooses it where there are two GPUs
    with pytest.raises(InputError, match="does not work with DataParallel"):
        keep_teacher(views, run.fabric, run.pipeline, run.task, Path("nowhere"))


def test_infinite_features_are_told_of(views, monkeypatch):
    def ask(distiller, images):
        found = mgd.method.answers.ask_teacher(distiller, images)
        return found._replace(features=[1e6 * maps for maps in found.features])

    monkeypatch.setattr(kept_teacher, "ask_teacher", ask)
    with pytest.raises(InputError, match="features at point_1 are no numbers, or are above 65504"):
        train(views)

"""Updating the matching: never worse, true where a truth is known, one result on all ranks."""

import copy
from collections import UserDict

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import forking
import mgd
from mgd import ranks


class Net(nn.Module):
    def __init__(self, channels=4, norm=True):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels) if norm else nn.Identity()
        self.relu = nn.ReLU()
        self.head = nn.Linear(channels, 5)

    def forward(self, x):
        return self.head(self.relu(self.norm(self.conv(x))).mean((2, 3)))


IMAGES = torch.randn(24, 3, 6, 6, generator=torch.Generator().manual_seed(3))
EXAMPLE = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(4))


def make(teacher=None, student=None, **options):
    options = {"points": [("relu", "relu")], "example": EXAMPLE, **options}
    return mgd.Distiller(teacher or Net(10), student or Net(), **options)


def batches(images=IMAGES, size=5):
    return list(images.split(size))


@pytest.mark.parametrize("reducer", mgd.REDUCERS)
def test_the_cost_never_rises(reducer):
    (report,) = mgd.update_matching(make(reducer=reducer), batches())
    assert report.cost_after <= report.cost_before + 1e-6
    assert report.churn > 0
    assert (report.images, report.dead_channels) == (24, 0)
    assert report.point == "relu -> relu"
    assert report.seconds > 0


def test_the_same_images_again_change_nothing():
    distiller = make()
    (first,) = mgd.update_matching(distiller, batches())
    (second,) = mgd.update_matching(distiller, batches(size=7))
    assert second.churn == 0
    assert second.cost_before == pytest.approx(first.cost_after, abs=1e-6)
    assert second.cost_after == second.cost_before


def test_churn_does_not_count_the_order_within_a_student_channel():
    distiller = make()
    mgd.update_matching(distiller, batches())
    matching = distiller.points[0].matcher.matching
    matching.copy_(matching.flip(0))
    (report,) = mgd.update_matching(distiller, batches())
    assert report.churn == 0


def test_churn_is_the_share_of_teacher_channels_that_moved():
    distiller = make()
    mgd.update_matching(distiller, batches())
    matching = distiller.points[0].matcher.matching
    matching[:, :2] = matching[:, :2].flip(1)  # two of four student channels swap both of theirs
    (report,) = mgd.update_matching(distiller, batches())
    assert report.churn == 0.5


def permuted_pair():
    """A teacher, and a student whose channels are the teacher's in another order."""
    teacher, student = Net(8), Net(8)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(7))
    for ours, theirs in ((student.conv, teacher.conv), (student.norm, teacher.norm)):
        ours.weight.data, ours.bias.data = theirs.weight.data[order], theirs.bias.data[order]
    return teacher, student, order


@pytest.mark.parametrize("solver", ["scipy", "ortools"])
@pytest.mark.parametrize("reducer", ["sm", "amp"])
def test_a_known_permutation_is_found(reducer, solver):
    teacher, student, order = permuted_pair()
    distiller = make(teacher, student, reducer=reducer, solver=solver)
    matcher = distiller.points[0].matcher
    matcher.matching.copy_(torch.arange(8)[None])
    (report,) = mgd.update_matching(distiller, batches())
    assert torch.equal(matcher.matching[0], order)
    assert report.cost_after == pytest.approx(0, abs=1e-6)
    assert report.churn > 0.5


def test_a_random_matching_is_resolved_to_the_known_permutation():
    teacher, student, order = permuted_pair()
    distiller = make(teacher, student, solver="random")
    matcher = distiller.points[0].matcher
    (control,) = mgd.update_matching(distiller, batches())
    assert not torch.equal(matcher.matching[0], order)
    matcher.solver = "scipy"
    (report,) = mgd.update_matching(distiller, batches())
    assert torch.equal(matcher.matching[0], order)
    assert report.cost_before == pytest.approx(control.cost_after, abs=1e-6)
    assert report.cost_after < report.cost_before


# --- which images


@pytest.mark.parametrize("most", [1, 5, 7, 24])
def test_max_images_are_seen_and_no_more(most):
    distiller = make()
    (report,) = mgd.update_matching(distiller, batches(), max_images=most)
    assert report.images == most
    other = make(distiller.teacher, distiller.student)
    mgd.update_matching(other, [IMAGES[:most]])
    torch.testing.assert_close(
        distiller.points[0].matcher.compute(), other.points[0].matcher.compute()
    )


def test_no_batch_is_loaded_in_vain():
    loaded = []

    def loader():
        for batch in batches():
            loaded.append(len(batch))
            yield batch

    mgd.update_matching(make(), loader(), max_images=10)
    assert loaded == [5, 5]


def test_labels_are_ignored_and_a_data_loader_will_do():
    distiller = make()
    pairs = DataLoader(TensorDataset(IMAGES, torch.zeros(24)), batch_size=6)
    (report,) = mgd.update_matching(distiller, pairs)
    assert report.images == 24


@pytest.mark.parametrize(
    "form",
    [
        lambda images: {"label": torch.zeros(5), "image": images},
        lambda images: {"images": images},
        lambda images: UserDict(pixel_values=images, labels=torch.zeros(5)),
        lambda images: {"image": images, "x": images[:0]},  # the first of the names
        lambda images: {"x": images, "mask": images[:0]},
        lambda images: [images, torch.zeros(5)],
    ],
)
def test_batches_of_several_forms_are_read(form):
    distiller, other = make(), make()
    other.load_state_dict(distiller.state_dict())
    other.teacher.load_state_dict(distiller.teacher.state_dict())
    other.student.load_state_dict(distiller.student.state_dict())
    (report,) = mgd.update_matching(distiller, map(form, batches()))
    mgd.update_matching(other, batches())
    assert report.images == 24
    one, two = (each.points[0].matcher.distance_sum for each in (distiller, other))
    assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("batch", "kind"),
    [
        ({"img": IMAGES, "y": 1}, "a dict with img, y"),
        ({"image": "a.png"}, "a dict with image"),
        ((["a.png"], IMAGES), "a tuple that starts with a list"),
        ([], "a list that starts with a NoneType"),
        ("a.png", "a str"),
    ],
)
def test_a_batch_without_images_is_told(batch, kind):
    message = f"the loader gives {kind}; needed are .* image, images, pixel_values, x$"
    with pytest.raises(mgd.InputError, match=message):
        mgd.update_matching(make(), [batch])


def test_statistics_start_afresh():
    distiller = make()
    mgd.update_matching(distiller, [IMAGES[:8]])
    (report,) = mgd.update_matching(distiller, [IMAGES[8:12]])
    assert report.images == 4


def test_an_empty_loader_is_told():
    with pytest.raises(mgd.InputError, match="the loader gave no images"):
        mgd.update_matching(make(), [])


@pytest.mark.parametrize("most", [0, -3])
def test_fewer_than_one_image_is_refused(most):
    with pytest.raises(mgd.InputError, match=r"`max_images` \(=.*\) must be at least 1"):
        mgd.update_matching(make(), batches(), max_images=most)


def test_features_that_are_nan_are_told():
    distiller = make()
    with pytest.raises(ValueError, match="NaN or infinite; look for NaN in the features"):
        mgd.update_matching(distiller, [IMAGES * float("nan")])


# --- what else an update does


def test_both_networks_are_observed_in_eval_mode_and_left_as_they_were():
    distiller = make().train()
    before = copy.deepcopy(distiller.student.state_dict())
    modes = []
    distiller.student.relu.register_forward_hook(lambda module, *_: modes.append(module.training))
    mgd.update_matching(distiller, batches())
    assert set(modes) == {False}
    assert distiller.student.training
    assert not distiller.teacher.training
    for name, value in distiller.student.state_dict().items():
        assert torch.equal(value, before[name])


def test_measured_margins_are_renewed():
    distiller = make(Net(10, norm=False))
    distiller.teacher.conv.weight.data *= 3
    mgd.update_matching(distiller, batches())
    features = distiller.teacher.conv(IMAGES)
    torch.testing.assert_close(distiller.points[0].margin, mgd.margin_from_features(features))


def test_dead_student_channels_are_counted():
    student = Net(norm=False)
    student.conv.weight.data[:2] = 0
    student.conv.bias.data[:2] = 0
    (report,) = mgd.update_matching(make(student=student), batches())
    assert report.dead_channels == 2


def test_training_afterwards_needs_no_warning(caplog):
    distiller = make()
    mgd.update_matching(distiller, batches())
    distiller.train()(IMAGES)
    assert not caplog.records


def test_without_points_there_is_nothing_to_report():
    assert mgd.update_matching(make(points=(), kd_weight=1.0), batches()) == []


def test_one_report_per_point_in_order():
    distiller = make(points=[("relu", "relu"), ("conv", "conv")])
    names = [report.point for report in mgd.update_matching(distiller, batches())]
    assert names == ["relu -> relu", "conv -> conv"]


@pytest.mark.parametrize(
    ("every", "due"), [(1, [0, 1, 2, 3, 4, 5]), (2, [0, 2, 4]), (3, [0, 3]), (0, [0])]
)
def test_schedule(every, due):
    schedule = mgd.RematchSchedule(every)
    assert [epoch for epoch in range(6) if schedule.due(epoch)] == due


# --- several ranks


def work(rank, folder, max_images, num_ranks):
    """Updates on this rank's share of the images, and writes down what came of it."""
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=num_ranks)
    torch.manual_seed(0)
    distiller = make(Net(10, norm=False))
    share = IMAGES[rank::num_ranks]
    (report,) = mgd.update_matching(distiller, share.split(4 + rank), max_images)
    point = distiller.points[0]
    found = {
        "matching": point.matcher.matching.clone(),
        "distance": point.matcher.compute(),
        "margin": point.margin.clone(),
        "images": report.images,
        "cost": report.cost_after,
    }
    torch.manual_seed(rank)
    point.matcher.solver = "random"
    mgd.update_matching(distiller, share.split(4), max_images)
    found["random"] = point.matcher.matching
    found["told"] = ""
    try:  # all ranks must hear of it, or the others would wait for ever
        mgd.update_matching(distiller, [share * (float("nan") if rank else 1)])
    except ValueError as error:
        found["told"] = str(error)
    torch.save(found, f"{folder}/{rank}.pt")
    ranks.leave()


@pytest.fixture(scope="module", params=[2, 3])
def all_ranks(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    forking.server()
    arguments = (str(folder), 23, request.param)
    mp.start_processes(work, arguments, nprocs=request.param, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


def test_several_ranks_find_what_one_finds(all_ranks):
    distiller = make(Net(10, norm=False))
    (report,) = mgd.update_matching(distiller, [IMAGES[:23]])
    point = distiller.points[0]
    for found in all_ranks:
        torch.testing.assert_close(found["distance"], point.matcher.compute())
        torch.testing.assert_close(found["margin"], point.margin)
        assert torch.equal(found["matching"], point.matcher.matching)
        assert found["images"] == 23
        assert found["cost"] == pytest.approx(report.cost_after, abs=1e-6)


def test_all_ranks_take_rank_0s_matching(all_ranks):
    first, *others = (found["random"] for found in all_ranks)
    assert all(torch.equal(first, other) for other in others)


def test_nan_on_one_rank_is_told_on_all(all_ranks):
    assert all("distances are NaN or infinite" in found["told"] for found in all_ranks)

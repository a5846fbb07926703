"""View: its values, what it does with an image, and what a file may say of it."""

import json
import math
import pickle
from contextlib import suppress

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mgd import InputError, View

HALF = (0.5, 0.5, 0.5)
GREY = View(mean=(0.4,), std=(0.2,), colour="L")


def refusal(make, *args, **values):
    with pytest.raises(InputError) as caught:
        make(*args, **values)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    return str(caught.value)


def colours():
    shares, widths = st.floats(0, 1), st.floats(0.0001, 10)
    for colour, count in (("RGB", 3), ("BGR", 3), ("L", 1)):
        yield st.fixed_dictionaries(
            {
                "colour": st.just(colour),
                "mean": st.lists(shares, min_size=count, max_size=count),
                "std": st.lists(widths, min_size=count, max_size=count),
            }
        )


PLAIN = st.builds(
    dict.__or__,
    st.one_of(*colours()),
    st.fixed_dictionaries(
        {
            "size": st.integers(4, 2000),
            "interpolation": st.sampled_from(["nearest", "bilinear", "bicubic"]),
            "crop_pct": st.floats(0.5, 2),
            "crop": st.sampled_from(["center", "squash", "border"]),
        }
    ),
)


@given(PLAIN)
def test_plain_values_make_the_round_trip_through_json(plain):
    view = View.from_plain(json.loads(json.dumps(plain)))
    assert view.to_plain() == plain
    assert View.from_plain(json.loads(json.dumps(view.to_plain()))) == view


def test_missing_values_keep_their_default():
    assert View.from_plain({}) == View()
    assert View.from_plain({"size": 64}) == View(size=64)


def test_equal_views_are_equal_keys():
    from_lists = View(mean=[0.5, 0.5, 0.5], std=[1, 1, 1])
    assert from_lists == View(mean=HALF, std=(1.0, 1.0, 1.0))
    assert len({from_lists, View(mean=HALF, std=(1.0, 1.0, 1.0)), View()}) == 2
    assert from_lists.mean == HALF
    assert isinstance(from_lists.std[0], float)


def test_replace_changes_and_checks():
    assert View().replace(size=32, crop_pct=1.0) == View(size=32, crop_pct=1.0)
    refusal(View().replace, size=0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"size": 0}, "`size` (=0) must be a whole number of pixels from 2 to 4096"),
        ({"size": 4097}, "`size` (=4097)"),
        ({"crop_pct": 0.0}, "`crop_pct` (=0.0) must be a number from 0.01 to 2"),
        ({"crop_pct": 87.5}, "`crop_pct` (=87.5)"),
        ({"crop_pct": math.nan}, "`crop_pct` (=nan)"),
        ({"size": 2000, "crop_pct": 0.4}, "makes an image of 5000 px"),
        ({"size": 2, "crop_pct": 1.5}, "makes an image of 1 px"),
        ({"interpolation": "lanczos"}, "choose one of nearest, bilinear, bicubic"),
        ({"crop": "random"}, "choose one of center, squash, border"),
        ({"colour": "CMYK"}, "choose one of RGB, BGR, L"),
        ({"mean": (123.7, 116.3, 103.5)}, "from 0 to 1, where white is 1"),
        ({"mean": (0.5, 0.5)}, "`mean` (=(0.5, 0.5)) must be a list of 3"),
        ({"mean": (0.5,)}, "must have 3 values, one for each channel of RGB"),
        ({"std": (0.5, 0.0, 0.5)}, "`std` (=(0.5, 0.0, 0.5))"),
        ({"std": (0.5, math.inf, 0.5)}, "`std`"),
        ({"colour": "L"}, "must have 1 values, one for each channel of L"),
    ],
)
def test_a_value_out_of_range_is_refused(values, words):
    assert words in refusal(View.from_plain, values)


@pytest.mark.parametrize(
    "values", [{"size": 0}, {"crop_pct": 2.5}, {"std": (0.0,) * 3}, {"mean": [0.5]}, {"mean": []}]
)
def test_a_view_of_code_is_checked_too(values):
    refusal(View, **values)


class TestHostile:
    """What a file says is checked, before anything is done with it."""

    @pytest.mark.parametrize("values", [None, 3, "size", [], [["size", 32]], {"a": 1}, {1: 1}])
    def test_no_mapping_of_known_names(self, values):
        refusal(View.from_plain, values)

    @pytest.mark.parametrize("name", View().to_plain())
    @pytest.mark.parametrize(
        "value",
        [
            *(None, True, [], {}, "", "x" * 10_000, "224", "nan", "line\nline"),
            *([[0.5]] * 3, [None] * 3, [True] * 3, ["0.5"] * 3, {"0": 0.5}),
            *(math.nan, math.inf, -math.inf, [math.nan] * 3, [1e308] * 3, [-0.1] * 3),
            *(-1, 10**400, 2.5, [0.5] * 10_000, [10**400] * 3),
        ],
        ids=lambda value: repr(value)[:20],
    )
    def test_a_value_of_another_kind(self, name, value):
        assert f"`{name}`" in refusal(View.from_plain, {name: value})

    @given(
        st.dictionaries(
            st.sampled_from([*View().to_plain(), "other"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.just("center"),
                lambda inner: st.lists(inner) | st.dictionaries(st.just("size"), inner),
                max_leaves=6,
            ),
        )
    )
    def test_whatever_json_holds_makes_a_view_or_an_error_of_ours(self, values):
        with suppress(InputError):
            view = View.from_plain(values)
            assert view(torch.zeros(3, 2, 3, dtype=torch.uint8)).isfinite().all()


@pytest.mark.parametrize(
    ("view", "text"),
    [
        (View(), "224 px, center 87.5 %, bilinear, mean and std of ImageNet"),
        (
            View(HALF, HALF, 384, "bicubic", 1.0, "squash"),
            "384 px, squash 100 %, bicubic, mean 0.5 0.5 0.5, std 0.5 0.5 0.5",
        ),
        (GREY, "224 px, center 87.5 %, bilinear, mean 0.4, std 0.2, L"),
    ],
)
def test_a_view_in_a_line(view, text):
    assert str(view) == text


@pytest.mark.parametrize(
    ("size", "crop_pct", "resized"),
    [
        (224, 0.875, 256),
        (224, 224 / 232, 232),
        (224, 0.95, 235),
        (32, 1.0, 32),
        (448, 1.15, 389),
        (4, 2, 2),
    ],
)
def test_the_side_before_the_crop_is_rounded_down(size, crop_pct, resized):
    assert View(size=size, crop_pct=crop_pct).resized == resized


@given(st.integers(2, 600), st.integers(2, 600))
def test_the_side_before_the_crop_survives_as_a_share(size, resized):
    if 0.01 <= size / resized <= 2:
        assert View(size=size, crop_pct=size / resized).resized == resized


def noise(*shape):
    return torch.randint(256, shape, dtype=torch.uint8)


@pytest.mark.parametrize("crop", ["center", "squash", "border"])
@pytest.mark.parametrize("crop_pct", [0.5, 0.875, 1.0, 1.15])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("height", "width"), [(32, 32), (20, 90), (90, 20), (1, 1), (1, 300), (300, 1), (2, 3)]
)
def test_every_image_comes_out_at_size(crop, crop_pct, interpolation, height, width):
    view = View(size=31, crop=crop, crop_pct=crop_pct, interpolation=interpolation)
    shown = view.transform()(noise(3, height, width))
    assert shown.shape == (3, 31, 31)
    assert shown.dtype == torch.uint8
    seen = view(noise(3, height, width))
    assert seen.shape == (3, 31, 31)
    assert seen.dtype == torch.float32


@pytest.mark.parametrize("crop", ["center", "squash", "border"])
def test_the_smallest_view(crop):
    seen = View(size=2, crop_pct=1.0, crop=crop)(noise(3, 8, 8))
    assert seen.shape == (3, 2, 2)


@pytest.mark.parametrize("crop", ["center", "squash", "border"])
@pytest.mark.parametrize("shape", [(3, 1, 20_000), (3, 20_000, 1), (3, 2, 1_000_000)])
def test_a_very_long_image_takes_little_memory(crop, shape):
    """Resized by its shorter side to 512 px, the first would take 31 GB."""
    with torch.profiler.profile(profile_memory=True) as watched:
        shown = View(size=512, crop=crop, crop_pct=1.0).transform()(noise(*shape))
    assert shown.shape == (3, 512, 512)
    assert sum(max(0, event.self_cpu_memory_usage) for event in watched.key_averages()) < 2**28


def test_the_middle_of_a_long_image_is_what_the_centre_crop_keeps():
    """Only beyond 16 : 1 the ends go before the resizing."""
    view, columns = View(size=8, crop_pct=1.0), torch.arange(256).repeat_interleave(4)
    image = columns.to(torch.uint8).expand(3, 8, -1)
    assert view.transform()(image)[0, 0].tolist() == [127] * 4 + [128] * 4


def bars(height, width, ends):
    """Grey, with the first and last tenth of the longer side white."""
    image = torch.full((3, height, width), 100, dtype=torch.uint8)
    if width > height:
        image[..., :ends] = image[..., -ends:] = 255
    else:
        image[:, :ends] = image[:, -ends:] = 255
    return image


@pytest.mark.parametrize(("height", "width"), [(40, 120), (120, 40)])
def test_what_a_crop_keeps_of_a_long_image(height, width):
    image = bars(height, width, 12)
    center, squash, border = (
        View(size=40, crop_pct=1.0, crop=crop).transform()(image)
        for crop in ("center", "squash", "border")
    )
    assert (center == 100).all()  # the ends are lost
    assert (squash == 255).float().mean() == pytest.approx(0.2, abs=0.06)  # all of it is there
    whole = border[:, 14:26] if width > height else border[:, :, 14:26]
    assert (whole == 255).float().mean() == pytest.approx(0.2, abs=0.06)


def test_a_border_has_the_mean_colour():
    view = View(mean=(0.1, 0.5, 0.9), size=40, crop_pct=1.0, crop="border")
    image = torch.full((3, 20, 60), 255, dtype=torch.uint8)
    assert view.transform()(image)[:, 0, 0].tolist() == [26, 128, 230]
    for colour, mean in (("RGB", view.mean), ("BGR", view.mean), ("L", (0.3,))):
        one = view.replace(colour=colour, mean=mean, std=(0.1,) * len(mean))
        assert one(image)[:, 0].abs().max() < 0.05
        assert one(image)[:, 20].abs().max() > 0.5


def test_a_share_above_one_leaves_a_black_border():
    image = torch.full((3, 60, 60), 255, dtype=torch.uint8)
    shown = View(size=40, crop_pct=1.25).transform()(image)
    assert shown[0, 20].tolist() == [0] * 4 + [255] * 32 + [0] * 4


def test_the_share_is_that_of_the_side():
    image = noise(3, 64, 64)
    shown = View(size=32, crop_pct=0.5).transform()(image)
    assert shown.equal(image[:, 16:48, 16:48])


def test_nearest_takes_the_pixel_that_pillow_takes():
    image = torch.arange(10, dtype=torch.uint8).expand(3, 10, -1)
    shown = View(size=4, crop_pct=1.0, interpolation="nearest").transform()(image)
    assert shown[0, 0].tolist() == [1, 3, 6, 8]


@pytest.mark.parametrize("crop", ["center", "squash", "border"])
def test_a_transform_goes_to_a_worker(crop):
    transform, image = View(size=32, crop=crop).transform(), noise(3, 30, 50)
    assert pickle.loads(pickle.dumps(transform))(image).equal(transform(image))


def test_an_image_is_not_changed():
    image = noise(3, 224, 224)
    before = image.clone()
    View(crop_pct=1.0)(image)
    assert image.equal(before)

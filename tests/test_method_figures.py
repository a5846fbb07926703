"""The figures of the method are drawn from any run with matched channels, here one of digits."""

import numpy as np
import pytest
from docs import make_figures
from PIL import Image

from mgd.engine.run import train


@pytest.fixture
def run(fast_run, tmp_path):
    """A distilled run of a second; its teacher is a run of its own, as the script makes it."""
    teacher = train(fast_run.replace(arch="cifar_resnet8_x0_5", experiment="teacher", epochs=1))
    config = fast_run.replace(
        distiller="mgd", teacher="cifar_resnet8_x0_5", teacher_resume=str(teacher.folder)
    )
    return train(config).folder


def test_every_figure_is_drawn(run, tmp_path):
    make_figures.draw_all(run, tmp_path / "images")
    drawn = {path.name: path for path in (tmp_path / "images").iterdir()}
    assert set(drawn) == set(make_figures.FIGURES)
    for path in drawn.values():
        picture = Image.open(path)
        assert picture.width > 500
        # On a page of either theme: the ground is a colour of its own, and shows through nowhere.
        assert np.asarray(picture.convert("RGBA"))[..., 3].min() == 255
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 20


def test_a_row_shows_the_values_of_its_maps(run):
    seen = make_figures.Seen(run)
    maps = seen.points[0].teacher[:, 1].detach()
    label, pictures = make_figures.mapped("teacher 1", maps, limit=1.0)
    assert label == "teacher 1"
    assert pictures.shape == (make_figures.IMAGES, *maps.shape[1:], 4)
    is_red, values = pictures[..., 0] > pictures[..., 2], maps.numpy()
    assert is_red[values > 0.02].all()
    assert not is_red[values < -0.02].any()


def test_where_a_channel_is_stronger_is_told_by_its_colour():
    winners = make_figures._winners(np.array([[0, 1], [1, 0]]))
    assert np.array_equal(winners[0, 0], winners[1, 1])
    assert not np.array_equal(winners[0, 0], winners[0, 1])


def test_a_run_without_maps_is_refused(fast_run):
    alone = train(fast_run.replace(epochs=1)).folder
    with pytest.raises(SystemExit, match=r"has no gallery\.npz with maps after training"):
        make_figures.Seen(alone)

"""The figure of the augmentation is drawn by the transforms of a run."""

import numpy as np
from docs import make_augmentation_figure as figure
from docs.make_figures import IMAGES, draw_rows

from mgd.report.theme import LIGHT


def test_each_row_shows_what_its_flag_does_and_is_drawn():
    rows = figure.rows_of(figure.some_images("digits", 16))
    assert [label for label, _ in rows] == ["the images", *figure.PER_IMAGE, *figure.PER_BATCH]
    original = rows[0][1]
    for _, pictures in rows:
        assert pictures.shape == (IMAGES, 16, 16, 3)
        assert pictures.dtype == np.uint8
    for label, pictures in rows[1:]:
        changed = (pictures != original).any((1, 2, 3)).sum()
        assert changed > IMAGES // 2, label
    drawn = draw_rows(LIGHT, rows)
    assert len(drawn.axes) == len(rows) * IMAGES

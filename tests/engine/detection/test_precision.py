"""Mean average precision: golden values, and laws that it obeys."""

import pytest
import torch

from mgd.engine.detection.precision import mean_average_precision


def found(*boxes):
    """Each box: label, score, corners."""
    return {
        "boxes": torch.tensor([box[2:] for box in boxes], dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor([box[0] for box in boxes], dtype=torch.long),
        "scores": torch.tensor([box[1] for box in boxes]),
    }


def truth(*boxes, crowd=()):
    """Each box: label, corners."""
    return {
        "boxes": torch.tensor([box[1:] for box in boxes], dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor([box[0] for box in boxes], dtype=torch.long),
        "crowd": torch.tensor([place in crowd for place in range(len(boxes))], dtype=torch.bool),
    }


def test_the_example_of_torchmetrics():
    """https://lightning.ai/docs/torchmetrics/stable/detection/mean_average_precision.html."""
    figures = mean_average_precision(
        [found((1, 0.536, 258.0, 41.0, 606.0, 285.0))], [truth((1, 214.0, 41.0, 562.0, 285.0))]
    )
    assert float(figures["map"]) == pytest.approx(0.6)
    assert float(figures["map_50"]) == 1.0
    assert float(figures["map_75"]) == 1.0
    assert figures["classes"].tolist() == [1]


def test_true_boxes_are_found_in_full():
    boxes = [(1, 4, 4, 20, 20), (2, 30, 5, 44, 40)]
    answers = [found(*((label, 0.9, *corners) for label, *corners in boxes)), found()]
    figures = mean_average_precision(answers, [truth(*boxes), truth()])
    assert float(figures["map"]) == 1.0
    assert figures["map_per_class"].tolist() == [1.0, 1.0]


def test_a_box_of_a_crowd_counts_neither_way():
    answers = [found((1, 0.9, 4, 4, 20, 20), (1, 0.95, 30, 5, 44, 40))]
    boxes = (1, 4, 4, 20, 20), (1, 30, 5, 44, 40)
    alone = mean_average_precision(answers, [truth(*boxes, crowd=(1,))])
    assert float(alone["map"]) == 1.0
    missed = mean_average_precision([found((1, 0.9, 4, 4, 20, 20))], [truth(*boxes, crowd=(1,))])
    assert float(missed["map"]) == 1.0


def test_the_order_of_images_and_boxes_changes_nothing():
    dice = torch.Generator().manual_seed(0)
    answers, targets = [], []  # equal scores would be ranked by the order
    for image in range(4):
        corners = torch.rand(3, 2, generator=dice) * 30
        boxes = torch.cat([corners, corners + 10], 1)
        targets.append(truth(*((1 + n % 2, *box.tolist()) for n, box in enumerate(boxes))))
        moved = boxes + torch.randn(3, 4, generator=dice)
        answers.append(
            found(
                *(
                    (1 + n % 2, 0.3 + 0.2 * n + 0.01 * image, *box.tolist())
                    for n, box in enumerate(moved)
                )
            )
        )
    one = mean_average_precision(answers, targets)
    other = mean_average_precision(answers[::-1], targets[::-1])
    assert 0 < float(one["map"]) < 1
    assert float(one["map"]) == pytest.approx(float(other["map"]))

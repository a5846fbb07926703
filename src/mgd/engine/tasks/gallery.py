"""Gallery: which channels of a distiller a run shows, and their maps before and after training.

Three student channels a point are chosen before the first step, so that the choice cannot favour
what training did well: of those that are not dead, the one nearest to its teacher channels, the one
in the middle, and the farthest, by channel distance. At the end the same channels are shown, with
the matching that belongs to the best epoch's weights.

Methods with a learned convolution have no gallery: behind it each teacher channel is followed by a
mix of all student channels, so that no student channel has teacher channels of its own.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mgd.method.distiller import Distiller
from mgd.method.maps import PointMaps, point_maps
from mgd.method.point import MatchedPoint
from mgd.runfolder import Gallery, GalleryChannel, Taught

Pictures = npt.NDArray[np.uint8]
CHANNELS, POINTS, FOLLOWED = 3, 4, 4
"""Most student channels of a point, most points, and most teacher channels of a student channel."""
PICTURE, MAP = 64, 32
"""Largest side of a picture and of a map, in pixels; a larger one is made smaller."""
_BUDGET = 200_000
"""Bytes of all maps before they are packed."""


def begin(distiller: Distiller, images: Tensor, labels: Sequence[str]) -> Gallery | None:
    """Returns the student's maps before training; None where no channel has a target of its own.

    Args:
        distiller: With a first matching.
        images: As `mgd.Distiller` takes them, RGB; (N, 3, H, W).
        labels: What is on each.
    """
    shown = _shown(point_maps(distiller, images))
    chosen = {id(maps): _chosen(maps.point) for maps in shown}
    side = _side(shown, len(images), sum(map(len, chosen.values())))
    channels = []
    for maps in shown:
        before = _small(maps.standardised(), side)
        channels += [
            GalleryChannel(
                teacher=str(maps.point.pair.teacher),
                student=str(maps.point.pair.student),
                channel=channel,
                before=before[:, channel].numpy(),
            )
            for channel in chosen[id(maps)]
        ]
    if not channels:
        return None
    return Gallery(pictures=pictures_of(images), labels=list(labels), channels=channels)


def finish(distiller: Distiller, images: Tensor, begun: Gallery) -> Gallery:
    """Adds what the channels were taught, and the student's maps after training.

    Args:
        distiller: With the weights and the matching to show.
        images: Those that the gallery was begun with.
        begun: From `begin`, also of an earlier process.
    """
    by_taps = {
        (str(maps.point.pair.teacher), str(maps.point.pair.student)): maps
        for maps in point_maps(distiller, images)
    }
    channels = []
    # Random drop draws; a report that is made again shows the same.
    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(0)
        for each in begun.channels:
            maps = by_taps[each.teacher, each.student]
            channels.append(replace(each, taught=_taught(maps, each)))
    return replace(begun, channels=channels)


def _taught(maps: PointMaps, shown: GalleryChannel) -> Taught:
    channel, side = shown.channel, max(shown.before.shape[1:])
    target = maps.target()[:, channel]
    followed = maps.point.matcher.matching[:, channel].unique()
    off = [float((maps.teacher[:, each] - target).abs().mean()) for each in followed]
    nearest = followed[np.argsort(off, kind="stable")[:FOLLOWED].tolist()]
    return Taught(
        followed=nearest.tolist(),
        groups=len(followed),
        margin=float(maps.margin()[channel]),
        teacher=_small(maps.teacher[:, nearest], side).transpose(0, 1).numpy(),
        target=_small(target[:, None], side)[:, 0].numpy(),
        after=_small(maps.normalised()[:, [channel]], side)[:, 0].numpy(),
    )


def _shown(found: Sequence[PointMaps]) -> list[PointMaps]:
    """Returns the points to show, from the first to the last; a single position shows nothing."""
    maps = [each for each in found if each.student.shape[2:].numel() > 1]
    places = np.linspace(0, len(maps) - 1, min(POINTS, len(maps))).round().astype(int)
    return [maps[place] for place in places]


def _chosen(point: MatchedPoint) -> list[int]:
    """Returns student channels: the nearest to its teacher channels, the middle, the farthest."""
    matcher = point.matcher
    cost = matcher.compute().T.gather(0, matcher.matching).mean(0)
    alive = (~matcher.dead_channels()[0]).nonzero()[:, 0]
    by_cost = alive[cost[alive].argsort(stable=True)].tolist()
    places = np.linspace(0, len(by_cost) - 1, min(CHANNELS, len(by_cost))).round().astype(int)
    return [by_cost[place] for place in places]


def _side(shown: Sequence[PointMaps], images: int, channels: int) -> int:
    """Returns the largest side of a map with which all maps are within the budget."""
    kinds = 3 + max((min(FOLLOWED, each.point.matcher.groups) for each in shown), default=0)
    most = [max(each.student.shape[2:]) for each in shown]
    for side in range(MAP, 1, -1):
        area = sum(min(side, size) ** 2 for size in most) * channels / max(1, len(shown))
        if images * kinds * area <= _BUDGET:
            return side
    return 1


def _small(maps: Tensor, side: int) -> Tensor:
    """Returns maps in float32 on the CPU, averaged to a side of at most so many pixels."""
    height, width = (min(side, size) for size in maps.shape[2:])
    return F.adaptive_avg_pool2d(maps.float(), (height, width)).cpu()


def pictures_of(images: Tensor) -> Pictures:
    """Returns uint8 images (N, 3, H, W) as pictures (N, height, width, 3), at most 64 px wide."""
    if max(images.shape[2:]) > PICTURE:
        small = F.interpolate(images.float(), (PICTURE, PICTURE), mode="bilinear", antialias=True)
        images = small.round().clamp(0, 255).byte()
    pictures: Pictures = images.permute(0, 2, 3, 1).cpu().numpy()
    return pictures

"""The gallery's file: what is written is read again, and a damaged file is one line."""

import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from mgd.errors import InputError
from mgd.runfolder import Gallery, GalleryChannel, Taught, read_gallery, write_gallery

DICE = np.random.default_rng(0)


def maps(*shape):
    return DICE.normal(size=shape).astype(np.float32)


def a_channel(number=3, side=4, images=2):
    size = (images, side, side)
    taught = Taught(
        followed=[5, 2],
        groups=3,
        margin=-0.5,
        teacher=maps(2, *size),
        target=maps(*size),
        after=10 * maps(*size),
    )
    return GalleryChannel(
        teacher="relu:input", student="act", channel=number, before=maps(*size), taught=taught
    )


def a_gallery(*channels):
    pictures = DICE.integers(256, size=(2, 8, 8, 3), dtype=np.uint8)
    labels = ["cat", "hot dog"]
    return Gallery(pictures=pictures, labels=labels, channels=list(channels or [a_channel()]))


def close(read, written):
    """To half of a step of the scale, of which there are 127 up to the largest value."""
    assert read.shape == written.shape
    assert read.dtype == np.float32
    assert np.abs(read - written).max() <= np.abs(written).max() / 254 * 1.001


def test_what_is_written_is_read(tmp_path):
    gallery = a_gallery(a_channel(3), a_channel(0, side=2))
    write_gallery(tmp_path, gallery)
    read = read_gallery(tmp_path)
    assert read.is_whole
    assert read.labels == gallery.labels
    assert np.array_equal(read.pictures, gallery.pictures)
    for one, other in zip(read.channels, gallery.channels, strict=True):
        for name in ("teacher", "student", "channel"):
            assert getattr(one, name) == getattr(other, name)
        for name in ("followed", "groups", "margin"):
            assert getattr(one.taught, name) == getattr(other.taught, name)
        close(one.before, other.before)
        for name in ("teacher", "target", "after"):
            close(getattr(one.taught, name), getattr(other.taught, name))


def test_maps_of_zeros_stay_zeros(tmp_path):
    channel = replace(a_channel(), before=np.zeros((2, 4, 4), np.float32))
    write_gallery(tmp_path, a_gallery(channel))
    assert not read_gallery(tmp_path).channels[0].before.any()


def test_a_run_that_goes_on_has_no_whole_gallery(tmp_path):
    assert read_gallery(tmp_path) is None
    begun = a_gallery(replace(a_channel(), taught=None))
    write_gallery(tmp_path, begun)
    read = read_gallery(tmp_path)
    assert not read.is_whole
    assert read.channels[0].taught is None
    close(read.channels[0].before, begun.channels[0].before)


def test_a_file_that_is_read_and_written_again_is_the_same(tmp_path):
    """So a resumed run, which adds to the file, keeps the maps of its start to the last bit."""
    write_gallery(tmp_path, a_gallery())
    content = (tmp_path / "gallery.npz").read_bytes()
    write_gallery(tmp_path, read_gallery(tmp_path))
    assert (tmp_path / "gallery.npz").read_bytes() == content


def arrays_of(folder):
    with np.load(folder / "gallery.npz") as archive:
        return dict(archive)


def cut(folder):
    content = (folder / "gallery.npz").read_bytes()
    (folder / "gallery.npz").write_bytes(content[: len(content) // 2])


def no_archive(folder):
    (folder / "gallery.npz").write_text("maps")


def bomb(folder):
    with zipfile.ZipFile(folder / "gallery.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("meta.npy", bytes(9 << 20))


def changed(**arrays):
    def damage(folder):
        np.savez(folder / "gallery.npz", **{**arrays_of(folder), **arrays})

    return damage


def without(name):
    def damage(folder):
        arrays = arrays_of(folder)
        del arrays[name]
        np.savez(folder / "gallery.npz", **arrays)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        no_archive,
        bomb,
        without("meta"),
        without("0.before"),
        without("0.target.scale"),
        changed(meta=np.frombuffer(b"[1]", np.uint8)),
        changed(meta=np.frombuffer(b"{", np.uint8)),
        changed(pictures=np.zeros((2, 8, 8), np.uint8)),
        changed(pictures=np.zeros((3, 8, 8, 3), np.uint8)),
        changed(**{"0.before": np.zeros((2, 4, 4))}),
        changed(**{"0.after": np.zeros((2, 5, 4), np.int8)}),
        changed(**{"0.teacher": np.zeros((1, 2, 4, 4), np.int8)}),
        changed(**{"0.after.scale": np.array(np.nan)}),
        changed(**{"0.after.scale": np.array([1.0, 2.0])}),
        changed(**{"0.after": np.array([{}], dtype=object)}),
    ],
)
def test_a_damaged_file_is_told_in_one_line(tmp_path, damage):
    write_gallery(tmp_path, a_gallery())
    damage(tmp_path)
    with pytest.raises(InputError, match=r"cannot be read: gallery\.npz") as caught:
        read_gallery(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_code_is_run_from_a_file(tmp_path):
    """An array of objects would be unpickled, which may run anything."""
    write_gallery(tmp_path, a_gallery())
    content = io.BytesIO()
    np.savez(content, **{**arrays_of(tmp_path), "meta": np.array([print], dtype=object)})
    (tmp_path / "gallery.npz").write_bytes(content.getvalue())
    with pytest.raises(InputError, match="allow_pickle"):
        read_gallery(tmp_path)

"""Pruning while an image is made: between the moment when it is there and the one when it has its name."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import pytest

from cnm.events import EventBus
from cnm.launcher.container import Container
from cnm.launcher.image_config import Image
from cnm.launcher.image_events import ImageEvents
from cnm.launcher.image_pruning import Pruned, Pruning
from cnm.launcher.images import Images
from cnm.wire.containers import HostConfig
from tests.support.image_store import NOBODY, PROGRAMS, add_image, store, tar, text
from tests.support.unpacked import lacking

_FIRST, _SECOND = (
    f"registry.example/{name}@sha256:{digit * 64}" for name, digit in (("first", "1"), ("second", "2"))
)
pytestmark = pytest.mark.skipif(bool(reason := lacking(*PROGRAMS)), reason=reason)


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return store(tmp_path)


class _Watched:
    """A lock before which something is done, each time."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._lock, self._act, self._is_acting = threading.RLock(), act, False

    def __enter__(self) -> None:
        if not self._is_acting:
            self._is_acting = True
            self._act()
            self._is_acting = False
        self._lock.acquire()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._lock.release()


@pytest.fixture
def pruned(images: Images, monkeypatch: pytest.MonkeyPatch) -> list[Pruned]:
    """All that is pruned: it is each time before a name is given, or shown."""
    found: list[Pruned] = []
    monkeypatch.setattr(images._store, "renaming", _Watched(lambda: found.append(_prune(images))))
    return found


def _prune(images: Images) -> Pruned:
    return Pruning(images, ImageEvents(images, EventBus()), NOBODY, only_dangling=True).run()


def test_an_image_that_is_imported_stays_until_it_has_its_name(images: Images, pruned: list[Pruned]) -> None:
    ident = add_image(images, "made", tar(text("f", "1")))

    assert pruned
    assert [each.removed for each in pruned] == [[]] * len(pruned)
    assert images.find("made").id == ident


def test_an_image_that_is_committed_stays_until_it_has_its_name(
    images: Images, tmp_path: Path, pruned: list[Pruned]
) -> None:
    add_image(images, "base", tar(text("f", "1")))
    pruned.clear()
    (tmp_path / "upper").mkdir()
    (tmp_path / "upper" / "more").write_text("2")

    ident = images.commit(_container(images.find("base")), str(tmp_path / "upper"), "made", "", "", [])

    assert pruned
    assert [each.removed for each in pruned] == [[]] * len(pruned)
    assert images.find("made").id == ident


def test_a_name_that_an_image_got_meanwhile_keeps_it(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    ident = add_image(images, "", tar(text("f", "1")))
    nameless = images.all()
    answers = iter([nameless])

    def listed() -> list[Image]:
        if listing := next(answers, None):
            images.tag(ident, "named")
            return listing
        return images._index.images()

    monkeypatch.setattr(images, "all", listed)

    assert _prune(images).removed == []
    assert images.find("named").id == ident


def test_digests_of_two_images_that_come_at_once_are_both_kept(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = add_image(images, "first", tar(text("f", "1")))
    second = ""

    def come() -> None:
        """Meanwhile."""
        nonlocal second
        if not second:
            second = add_image(images, "second", tar(text("f", "2")))
            images.add_digest(second, _SECOND)

    monkeypatch.setattr(images._store.digests, "_writing", _Watched(come))

    images.add_digest(first, _FIRST)

    assert (images.find(_FIRST).id, images.find(_SECOND).id) == (first, second)


def test_times_of_two_images_that_are_named_at_once_are_both_kept(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = add_image(images, "first", tar(text("f", "1")))
    second = ""

    def come() -> None:
        """Meanwhile."""
        nonlocal second
        second = second or add_image(images, "second", tar(text("f", "2")))

    monkeypatch.setattr(images._store.tag_times, "_writing", _Watched(come))

    images._store.note_tag(first)

    assert min(images.last_tagged(first), images.last_tagged(second)) > 0


def test_of_loaded_images_that_somebody_has_removed_meanwhile_nothing_is_told(images: Images) -> None:
    ident, bus = add_image(images, "stays", tar(text("f", "1"))), EventBus()

    ImageEvents(images, bus).tell_loaded(["Loaded image: gone:latest", "Loaded image: stays:latest"])

    assert [(event.action, event.id) for event in bus.past()] == [("load", ident)]


def test_an_image_without_a_name_goes_once_nobody_makes_one(images: Images) -> None:
    ident = add_image(images, "", tar(text("f", "1")))

    assert ident in [each.deleted for each in _prune(images).removed]
    assert images.all() == []


def test_an_image_whose_folder_goes_meanwhile_keeps_no_other_from_being_shown(
    images: Images, tmp_path: Path
) -> None:
    add_image(images, "gone", tar(text("f", "1")))
    (layer,) = images.find("gone").layers
    shutil.rmtree(tmp_path / "storage" / "overlay" / layer)

    ident = add_image(images, "made", tar(text("f", "2")))

    assert images.find("made").id == ident


def _container(image: Image) -> Container:
    return Container(
        id="c" * 64,
        name="c",
        created=0,
        image=image.id,
        layers=image.layers,
        config=image.config,
        host=HostConfig(),
        networks={},
        args=(),
    )

"""Which images go when one is removed, and when none may."""

from __future__ import annotations

import pytest

from cnm.errors import Conflict, NotFound
from cnm.launcher.image_config import Image
from cnm.launcher.removal import Plan, Removal, Removed, User, records
from cnm.wire.containers import Config


def _image(letter: str, *names: str, parent: str = "", layers: str = "") -> Image:
    return Image(
        **{"id": f"sha256:{letter * 64}", "names": tuple(f"docker.io/library/{name}" for name in names)},
        **{"layers": (), "config": Config(), "created": 0, "size": 0, "architecture": "", "os": ""},
        **{"author": "", "comment": "", "history": ()},
        diff_ids=tuple(f"sha256:{layer * 64}" for layer in layers),
        parent=f"sha256:{parent * 64}" if parent else "",
    )


def _plan(
    images: list[Image], reference: str, *, force: bool = False, prune: bool = True, users: str = ""
) -> Plan:
    """`users` are letters of images that stopped containers are made from."""

    def in_use(image: str) -> list[User]:
        return [User("c" * 64, False)] if image[7] in users else []

    return Removal(images[0], reference, force, prune, images, in_use).plan()


def test_nameless_parents_that_nobody_needs_go_along() -> None:
    child, parent, base = _image("a", "x:1", parent="b"), _image("b", parent="d"), _image("d", "base:1")

    assert _plan([child, parent, base], "x:1").deleted == (child, parent)
    assert _plan([child, parent, base], "x:1", prune=False).deleted == (child,)
    assert _plan([child, parent, base], "x:1", users="b").deleted == (child,)
    assert _plan([child, parent, _image("e", parent="b")], "x:1").deleted == (child,)


def test_a_parent_is_untagged_but_not_deleted_by_its_id() -> None:
    parent, child = _image("a", "x:1"), _image("b", parent="a")

    assert _plan([parent, child], "x:1") == Plan(("docker.io/library/x:1",), ())
    with pytest.raises(
        Conflict, match=r"unable to delete aaaaaaaaaaaa \(cannot be forced\) - image has dependent"
    ):
        _plan([parent, child], "aaaa", force=True)


def test_layers_that_others_share_are_not_told() -> None:
    gone, kept = _image("a", "x:1", layers="12"), _image("b", "y:1", layers="1")

    told = records(Plan(gone.names, (gone,)), [gone, kept])

    assert [entry.untagged for entry in told] == ["x:1", "", ""]
    assert told[1] == Removed(deleted=gone.id)
    assert told[2].deleted not in (f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"), "it is the layer's chain id"


def test_a_name_that_looks_like_the_beginning_of_the_id_is_taken_for_one() -> None:
    """As Docker does."""
    image = _image("a", "aaaa:latest", "x:1")

    with pytest.raises(Conflict, match="image is referenced in multiple repositories"):
        _plan([image], "aaaa")


_DIGEST = f"x@sha256:{'5' * 64}"


def test_a_name_by_digest_goes_with_the_last_tag_of_its_repository() -> None:
    full = f"docker.io/library/{_DIGEST}"

    assert _plan([_image("a", "x:1", _DIGEST)], "x:1").untagged == ("docker.io/library/x:1", full)
    assert _plan([_image("a", "x:1", "x:2", _DIGEST)], "x:1").untagged == ("docker.io/library/x:1",)
    assert _plan([_image("a", "x:1", _DIGEST)], "aaaa").deleted


def test_a_digest_that_is_no_name_of_the_image_removes_nothing() -> None:
    with pytest.raises(NotFound, match="No such image: x@sha256:555"):
        _plan([_image("a", "x:1")], _DIGEST)


def test_running_containers_come_before_other_reasons() -> None:
    image = _image("a", "x:1", "y:1")
    removal = Removal(image, "aaaa", False, True, [image], lambda _: [User("c" * 64, True)])

    with pytest.raises(Conflict, match="image is being used by running container cccccccccccc"):
        removal.plan()

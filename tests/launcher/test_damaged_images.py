"""Images that a power cut or a bad disk has damaged: the others are there, and they can be removed and had again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cnm.errors import CnmError, Conflict, NotFound
from cnm.launcher.image_index import digits
from cnm.launcher.images import Images
from cnm.launcher.orphaned_layers import orphans
from cnm.launcher.removal import Removed, User
from cnm.launcher.storage import Storage
from tests.support.image_archives import archive
from tests.support.image_store import NOBODY, PROGRAMS, add_image, store, tar, text
from tests.support.launcher import IMAGE, Launcher
from tests.support.launcher_left import left
from tests.support.unpacked import lacking

pytestmark = pytest.mark.skipif(bool(reason := lacking(*PROGRAMS)), reason=reason)


def _document(storage: Path, image: str) -> Path:
    """The file of an image's configuration."""
    folder = storage / "overlay-images" / digits(image)
    return next(path for path in folder.iterdir() if b'"rootfs"' in path.read_bytes())


def _cut_configuration(storage: Path, image: str) -> None:
    path = _document(storage, image)
    path.write_bytes(path.read_bytes()[:40])


def _empty_configuration(storage: Path, image: str) -> None:
    _document(storage, image).write_bytes(b"")


def _other_configuration(storage: Path, image: str) -> None:
    path = _document(storage, image)
    path.write_bytes(path.read_bytes().replace(b'"linux"', b'"linuy"'))


def _lose_configuration(storage: Path, image: str) -> None:
    _document(storage, image).unlink()


def _forget_layer(storage: Path, image: str) -> None:
    """As where the list of layers is older than that of images."""
    path = storage / "overlay-layers" / "layers.json"
    images = json.loads((storage / "overlay-images" / "images.json").read_text())
    lost = next(each["layer"] for each in images if each["id"] == digits(image))
    path.write_text(json.dumps([layer for layer in json.loads(path.read_text()) if layer["id"] != lost]))


Damage = Callable[[Path, str], None]
"""Of the store and the image of an id."""

DAMAGES: dict[str, Damage] = {
    "a configuration that was cut off": _cut_configuration,
    "an empty configuration": _empty_configuration,
    "a configuration that says something else": _other_configuration,
    "no configuration": _lose_configuration,
    "no layer": _forget_layer,
}


@pytest.fixture(params=list(DAMAGES))
def damage(request: pytest.FixtureRequest) -> Damage:
    return DAMAGES[request.param]


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "storage"


def _damaged(place: Path, damage: Damage) -> tuple[Images, str]:
    """The store of a launcher that was started after an image was damaged; the image's id."""
    images = store(place)
    add_image(images, "whole", tar(text("f", "1")))
    broken = add_image(images, "broken", tar(text("f", "2")))
    damage(place / "storage", broken)
    return store(place), broken


def test_the_others_are_there_and_it_is_not(tmp_path: Path, damage: Damage) -> None:
    images, broken = _damaged(tmp_path, damage)

    assert [image.names for image in images.all()] == [("docker.io/library/whole:latest",)]
    assert [(each.id, each.names) for each in images.damaged()] == [
        (broken, ("docker.io/library/broken:latest",))
    ]
    with pytest.raises(NotFound, match="No such image: broken:latest"):
        images.find("broken")
    images.tag("whole", "other")
    assert images.find("other").names == ("docker.io/library/other:latest", "docker.io/library/whole:latest")


@pytest.mark.parametrize("by", ["name", "id", "beginning of the id"])
def test_it_can_be_removed(tmp_path: Path, storage: Path, damage: Damage, by: str) -> None:
    images, broken = _damaged(tmp_path, damage)
    reference = {"name": "broken", "id": broken}.get(by, digits(broken)[:12])

    removed = images.remove_damaged(reference, NOBODY)

    assert removed == [Removed(untagged="broken:latest"), Removed(deleted=broken)]
    assert images.damaged() == []
    assert not (storage / "overlay-images" / digits(broken)).exists()
    images.settle()
    assert _layers(storage) == set(images.find("whole").layers)


def test_it_is_there_again_when_it_comes_again(tmp_path: Path, damage: Damage) -> None:
    images = store(tmp_path)
    add_image(images, "whole", tar(text("f", "1")))
    made = archive("broken:latest", layers=[tar(text("f", "2")), tar(text("g", "3"))])
    _load(images, tmp_path, made.content)
    damage(tmp_path / "storage", made.id)
    images = store(tmp_path)
    assert [each.id for each in images.damaged()] == [made.id]

    _load(images, tmp_path, made.content)

    assert images.damaged() == []
    found = images.find("broken")
    assert (found.id, len(found.layers)) == (made.id, 2)
    for layer, name in zip(found.layers, ("f", "g"), strict=True):
        assert (tmp_path / "storage/overlay" / layer / "diff" / name).exists()


def _load(images: Images, place: Path, content: bytes) -> None:
    (place / "archive").write_bytes(content)
    with (place / "archive").open("rb") as file:
        assert images.load(file) == ["Loaded image: broken:latest"]


def test_it_stays_while_a_container_is_made_from_it(tmp_path: Path) -> None:
    images, broken = _damaged(tmp_path, _cut_configuration)

    with pytest.raises(Conflict, match="image is damaged, and container aaaaaaaaaaaa is made from it"):
        images.remove_damaged("broken", lambda _: [User("a" * 64, False)])
    assert [each.id for each in images.damaged()] == [broken]


def test_what_was_never_there_is_missed(tmp_path: Path) -> None:
    images, _ = _damaged(tmp_path, _cut_configuration)

    with pytest.raises(NotFound, match="No such image: nope:latest"):
        images.remove_damaged("nope", NOBODY)


def test_each_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images, broken = _damaged(tmp_path, _cut_configuration)

    images.all()
    images.tag("whole", "other")
    images.all()

    told = [line for line in caplog.messages if broken in line]
    assert told == [
        f"image {broken} is damaged: its configuration is not what was stored: remove it, and get it again"
    ]


def test_a_damaged_list_of_containers_says_which_and_keeps_layers(tmp_path: Path, storage: Path) -> None:
    images = store(tmp_path)
    add_image(images, "whole", tar(text("f", "1")))
    folder = storage / "overlay-containers"
    folder.mkdir(exist_ok=True)
    (folder / "containers.json").write_text('[{"id": ')

    with pytest.raises(CnmError, match=r"the image store's list .*containers\.json is damaged"):
        Storage(str(storage)).containers()
    images.settle()  # is told, and no more
    assert images.find("whole").names


def test_layers_of_containers_are_no_orphans(tmp_path: Path, storage: Path) -> None:
    images = store(tmp_path)
    add_image(images, "whole", tar(text("f", "1")))
    contents = Storage(str(storage)).read()
    (layer,) = contents.layers

    assert list(orphans(contents, [layer], ())) == []
    assert [chain[0].id for chain in orphans(contents, [], ())] == [layer]
    assert list(orphans(contents, [], [layer])) == []


@pytest.mark.parametrize("what", ["layers", "images", "neither"])
def test_what_a_kill_left_half_there_goes_at_the_next_start(tmp_path: Path, storage: Path, what: str) -> None:
    """A layer that is flagged, an image that was not finished, and a folder that no list names."""
    images = store(tmp_path)
    add_image(images, "whole", tar(text("f", "1")))
    half = "2" * 64
    (storage / "overlay" / half / "diff").mkdir(parents=True)
    if what != "neither":
        path = storage / f"overlay-{what}" / f"{what}.json"
        entry = {"id": half, "created": "2024-01-01T00:00:00Z", "flags": {"incomplete": True}}
        path.write_text(json.dumps([*json.loads(path.read_text()), entry]))
    assert [image.names for image in images.all()] == [("docker.io/library/whole:latest",)]
    assert images.damaged() == []

    images = store(tmp_path)
    images.settle()

    (whole,) = images.all()
    assert _layers(storage) == set(whole.layers)
    for name in ("layers", "images"):
        assert len(json.loads((storage / f"overlay-{name}" / f"{name}.json").read_text())) == 1


def test_what_podman_wrote_while_a_launcher_began_goes_too(tmp_path: Path, storage: Path) -> None:
    """One of a launcher that was killed works until it is ended."""
    images = store(tmp_path)
    (storage / "incoming/1234").mkdir()

    images.settle()

    assert os.listdir(storage / "incoming") == []


Half = Callable[[Path], None]
"""Of a working container of podman's, put into a store."""
_HALF = "2" * 64


def _put(storage: Path, what: str, **fields: str) -> None:
    path = storage / f"overlay-{what}" / f"{what}.json"
    path.parent.mkdir(exist_ok=True)
    listed = json.loads(path.read_text()) if path.exists() else []
    entry = {"id": _HALF, "created": "2024-01-01T00:00:00Z", **fields}
    path.write_text(json.dumps([*(listed or []), entry]))


def _layer_without_container(storage: Path) -> None:
    below = json.loads((storage / "overlay-layers/layers.json").read_text())[0]["id"]
    _put(storage, "layers", parent=below)
    (storage / "overlay" / _HALF / "diff").mkdir(parents=True)


def _container_without_layer(storage: Path) -> None:
    _put(storage, "containers", layer=_HALF)


def _container_without_notes(storage: Path) -> None:
    _layer_without_container(storage)
    _container_without_layer(storage)


@pytest.fixture(params=[_layer_without_container, _container_without_layer, _container_without_notes])
def half(request: pytest.FixtureRequest) -> Half:
    made: Half = request.param
    return made


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "failed"])
def test_halves_of_working_containers_go(tmp_path: Path, storage: Path, half: Half, is_killed: bool) -> None:
    """At the next start, or when nobody adds layers any more of whom one has failed."""
    images = store(tmp_path)
    add_image(images, "whole", tar(text("f", "1")))

    if is_killed:
        half(storage)
        images = store(tmp_path)
        images.settle()
    else:
        with pytest.raises(CnmError, match="failed"):
            _fail(images, lambda: half(storage))

    (whole,) = images.all()
    assert _layers(storage) == set(whole.layers)
    assert {each.id for each in Storage(str(storage)).all_layers()} == set(whole.layers)
    assert Storage(str(storage)).containers() == []


def _fail(images: Images, act: Callable[[], None]) -> None:
    with images.adding():
        act()
        raise CnmError("failed")


@pytest.fixture
def broken(docker: Launcher, damage: Damage) -> tuple[str, bytes]:
    """Of an image that a launcher finds damaged when it is started: the id, and an archive of it."""
    made = archive("broken:latest", layers=[tar(text("f", "2")), tar(text("g", "3"))])
    path = docker.place / "broken.tar"
    path.write_bytes(made.content)
    docker.docker("load", "-i", str(path))
    docker.stop()
    damage(docker.place / "root/launcher/storage", made.id)
    docker.start()
    return made.id, made.content


def test_the_docker_cli_lists_runs_and_removes_around_it(docker: Launcher, broken: tuple[str, bytes]) -> None:
    ident, _ = broken
    assert docker.docker("images", "--format", "{{.Repository}}") == IMAGE
    assert docker.docker("run", "--rm", IMAGE, "echo", "runs") == "runs"
    assert docker.fails("image", "inspect", "broken")[1] == "Error: No such image: broken"

    said = docker.docker("rmi", "broken")

    assert said.splitlines() == ["Untagged: broken:latest", f"Deleted: {ident}"]
    assert docker.fails("rmi", "broken") == (1, "Error: No such image: broken")
    docker.stop()
    docker.start()
    assert left(docker) == []


def test_image_prune_takes_it_and_it_can_be_loaded_again(docker: Launcher, broken: tuple[str, bytes]) -> None:
    ident, content = broken
    assert ident not in docker.docker("image", "prune", "-f")  # it has a name
    docker.docker("create", "--name", "user", IMAGE)

    assert f"deleted: {ident}" in docker.docker("image", "prune", "-a", "-f")

    path = docker.place / "again.tar"
    path.write_bytes(content)
    docker.docker("load", "-i", str(path))
    assert docker.docker("images", "-q", "--no-trunc", "broken") == ident
    docker.docker("rmi", "broken")


def _layers(storage: Path) -> set[str]:
    return {name for name in os.listdir(storage / "overlay") if len(name) == 64}

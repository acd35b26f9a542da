"""Pulls that go wrong: told clearly, nothing stays half-there, and the next one works."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

import pytest

from tests.support.engine_pair import ask
from tests.support.launcher_left import left
from tests.support.registry_images import layer, put_image, put_list
from tests.support.registry_stage import LARGE as _LARGE
from tests.support.registry_stage import PORT as _PORT
from tests.support.registry_stage import PROGRAMS, Stage, staged
from tests.support.registry_stage import ROOM as _ROOM
from tests.support.registry_stage import await_end as _await_end
from tests.support.registry_stage import large as _large
from tests.support.registry_stage import podmans as _podmans
from tests.support.registry_stage import pulling as _Pull
from tests.support.small_containers import eventually
from tests.support.unpacked import lacking


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    if reason := lacking(*PROGRAMS):
        pytest.skip(reason)
    with staged() as stage:
        yield stage


@pytest.fixture
def clean(stage: Stage) -> Iterator[Stage]:
    """Only busybox before and after."""
    yield stage
    stage.clear()


def test_a_layer_that_is_not_what_its_digest_says_is_refused(clean: Stage) -> None:
    put = clean.put("corrupt", layer("small", b"x" * 1000), _large(b"c"))
    blob = clean.registry.blob(put.layers[1])
    sound = blob.read_bytes()
    before = clean.left()
    blob.write_bytes(sound[: len(sound) // 2] + b"changed" + sound[len(sound) // 2 + 7 :])

    said = clean.fails("corrupt")

    assert f"filesystem layer verification failed for digest {put.layers[1]}" in said
    assert clean.rest() == before
    blob.write_bytes(sound)
    assert "Downloaded newer image" in clean.pull("corrupt")


def test_a_layer_that_is_too_short_is_refused(clean: Stage) -> None:
    put = clean.put("short", _large(b"s"))
    blob = clean.registry.blob(put.layers[0])
    sound = blob.read_bytes()
    before = clean.left()
    blob.write_bytes(sound[: len(sound) // 2])

    assert "verification failed" in clean.fails("short")

    assert clean.rest() == before
    blob.write_bytes(sound)
    assert "Downloaded newer image" in clean.pull("short")


def test_a_registry_that_dies_amid_a_pull_is_told_of(clean: Stage) -> None:
    clean.put("dying", layer("small-d", b"d"), _large(b"d"))
    before = clean.left()
    clean.wire.stop_after(_LARGE // 2)
    with _Pull(clean, "dying") as pull:
        assert clean.wire.stands_still.wait(30)
        clean.registry.stop()
        clean.wire.cut()
        code, said = pull.end()

    assert (code, f"the connection to {clean.name('')[:-1]} broke off: " in said) == (1, True), said
    assert clean.rest() == before
    clean.registry.start()
    assert "Downloaded newer image" in clean.pull("dying")


def test_what_a_broken_pull_had_fetched_is_not_fetched_again(clean: Stage) -> None:
    first, second = os.urandom(1 << 20), os.urandom(8 << 20)
    clean.put("resumed", layer("first", first), layer("second", second))
    before = clean.left()
    clean.wire.stop_after(6 << 20)
    with _Pull(clean, "resumed") as pull:
        assert clean.wire.stands_still.wait(30)
        eventually(lambda: len(_layers(clean)) > len(before[1]))
        clean.registry.stop()
        clean.wire.cut()
        code, said = pull.end()
        clean.registry.start()
    assert code == 1, said
    assert len(clean.left()[1]) == len(before[1]) + 1
    assert clean.left()[0::2] == before[0::2]
    carried = clean.wire.carried

    said = clean.pull("resumed")

    assert "Already exists" in said
    assert "Downloaded newer image" in said
    assert len(second) < clean.wire.carried - carried < len(second) + len(first) // 2


MOMENTS: dict[str, tuple[int, Callable[[Stage, tuple[list[str], ...]], bool]]] = {
    "before its manifest": (1, lambda stage, _: stage.wire.stands_still.is_set()),
    "amid its large layer": (_LARGE // 2, lambda stage, _: stage.wire.stands_still.is_set()),
    "when a layer's folder is there": (0, lambda stage, before: len(stage.folders()) > len(before[1])),
    "while a layer is unpacked": (
        0,
        lambda stage, _: bool(list(stage.storage.glob("overlay/*/diff/large-k"))),
    ),
    "when the first layer is known": (0, lambda stage, before: len(_layers(stage)) > len(before[1])),
    "when the image is known": (0, lambda stage, before: len(_images(stage)) > len(before[0])),
}
"""When the launcher is killed: once the wire has carried so many bytes (0: all of them), and this has come true."""


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_launcher_that_is_killed_amid_a_pull_leaves_nothing(clean: Stage, moment: str) -> None:
    size, has_come = MOMENTS[moment]
    clean.put("killed", layer("small-k", os.urandom(1000)), _large(b"k"), layer("zeros-k", bytes(20 << 20)))
    before = clean.left()
    if size:
        clean.wire.stop_after(size)
    with _Pull(clean, "killed") as pull:
        while not has_come(clean, before) and pull.goes_on:
            continue
        clean.launcher.kill()
        pull.end()
    clean.launcher.start()

    assert left(clean.launcher) == []
    clean.wire.cut()
    said = clean.pull("killed")
    assert "Downloaded newer image" in said or "Image is up to date" in said
    clean.launcher.docker("rmi", clean.name("killed:1"))
    assert clean.left() == before


def _layers(stage: Stage) -> list[str]:
    return _listed(stage, "layers")


def _images(stage: Stage) -> list[str]:
    return _listed(stage, "images")


def _listed(stage: Stage, what: str) -> list[str]:
    """Ids of those that the store knows and are whole."""
    found = json.loads((stage.storage / f"overlay-{what}" / f"{what}.json").read_text())
    return [each["id"] for each in found if not each.get("flags", {}).get("incomplete")]


def test_a_client_that_goes_away_ends_its_pull(clean: Stage) -> None:
    clean.put("left", _large(b"l"))
    before = clean.left()
    clean.wire.stop_after(_LARGE // 2)
    with _Pull(clean, "left") as pull:
        assert clean.wire.stands_still.wait(30)
        programs = _podmans(clean)
        pull.leave()
        _await_end(programs)

    assert programs
    clean.wire.cut()
    assert "Downloaded newer image" in clean.pull("left")
    assert clean.left()[2] == before[2] == []


def test_two_pulls_of_one_image_fetch_it_once(clean: Stage) -> None:
    clean.put("twice", _large(b"t"))
    clean.wire.stop_after(_LARGE // 2)
    with _Pull(clean, "twice") as first:
        assert clean.wire.stands_still.wait(30)
        with _Pull(clean, "twice") as second:
            clean.wire.flow()
            said = [first.end(), second.end()]

    assert [code for code, _ in said] == [0, 0]
    assert sorted("Downloaded newer image" in text for _, text in said) == [False, True]


def test_a_full_disk_is_told_of_and_leaves_room_again(clean: Stage) -> None:
    clean.put("huge", layer("zeros", bytes(_ROOM + (16 << 20))))
    before = clean.left()

    said = clean.fails("huge")

    assert "no space left on device" in said
    assert [set(now) - set(then) for now, then in zip(clean.left(), before, strict=True)] == [set()] * 3
    clean.put("fits", _large(b"f"))
    assert "Downloaded newer image" in clean.pull("fits")


def test_a_registry_that_is_not_there_is_told_of(clean: Stage) -> None:
    said = clean.launcher.fails("pull", "127.0.0.1:9/x:1")[1]

    assert "connection refused" in said


def test_a_registry_without_tls_is_not_asked_unless_it_is_named(clean: Stage) -> None:
    clean.put("plain", layer("f", b"1"))

    said = clean.launcher.fails("pull", f"127.0.0.1:{_PORT}/plain:1")[1]

    assert "http: server gave HTTP response to HTTPS client" in said
    assert "insecure-registries" in said
    assert "Downloaded newer image" in clean.pull("plain")


def test_a_mirror_is_asked_before_docker_hub(clean: Stage) -> None:
    put = put_image(clean.host, clean.registry, "library/mirrored", "1", [layer("f", b"mirrored")])

    said = clean.launcher.docker("pull", "mirrored:1")

    assert "Status: Downloaded newer image for mirrored:1" in said
    assert clean.launcher.docker("image", "inspect", "-f", "{{.Id}}", "mirrored:1") == put.id


def test_of_a_list_the_image_for_this_machine_comes_or_the_one_that_is_asked_for(clean: Stage) -> None:
    images = {
        machine: put_image(clean.host, clean.registry, "many", "", [layer("f", machine.encode())], machine)
        for machine in ("amd64", "arm64")
    }
    digest = put_list(clean.host, clean.registry, "many", "1", images)

    said = clean.pull("many")
    own = clean.launcher.docker("image", "inspect", "-f", "{{.Id}} {{.Architecture}}", clean.name("many:1"))
    clean.launcher.docker("pull", "--platform", "linux/arm64", clean.name("many:1"))
    other = clean.launcher.docker("image", "inspect", "-f", "{{.Id}} {{.Architecture}}", clean.name("many:1"))

    assert f"Digest: {digest}" in said
    assert (own, other) == (f"{images['amd64'].id} amd64", f"{images['arm64'].id} arm64")


def test_answers_have_dockers_status_before_anything_was_told(clean: Stage) -> None:
    unknown = ask(clean.launcher.socket, "POST", f"/images/create?fromImage={clean.name('none')}&tag=1")

    assert unknown.status == 404
    assert unknown.message.startswith(f"manifest for {clean.name('none')}:1 not found")

"""Pulls that go wrong: told clearly, nothing stays half-there, and the next one works."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from netns_fixtures import Host
from tests.support import launcher as lab
from tests.support import registry as registries
from tests.support.cut_wire import Wire, wire
from tests.support.engine_pair import ask
from tests.support.launcher import Launcher
from tests.support.launcher_left import left
from tests.support.registry import Registry
from tests.support.registry_images import Put, layer, put_image, put_list
from tests.support.small_containers import eventually
from tests.support.unpacked import environment, lacking

_WIRE_PORT, _PORT = 5001, 5000
_LARGE = 4 << 20
_ROOM = 64 << 20
"""Bytes of the disk that the launcher has for everything."""
_SETTINGS = f"""\
insecure-registries = ["127.0.0.1:{_WIRE_PORT}"]
registry-mirrors = ["http://127.0.0.1:{_PORT}"]
"""


@dataclass
class Stage:
    """A launcher on a small disk, and a registry that it reaches by a wire."""

    launcher: Launcher
    registry: Registry
    wire: Wire
    host: Host

    def name(self, image: str) -> str:
        return f"127.0.0.1:{_WIRE_PORT}/{image}"

    def put(self, name: str, *layers: bytes) -> Put:
        return put_image(self.host, self.registry, name, "1", layers)

    def pull(self, image: str) -> str:
        return self.launcher.docker("pull", self.name(f"{image}:1"))

    def fails(self, image: str) -> str:
        return self.launcher.fails("pull", self.name(f"{image}:1"))[1]

    @property
    def storage(self) -> Path:
        return self.launcher.place / "root/launcher/storage"

    def folders(self) -> list[str]:
        """Of layers, known or not."""
        return [each for each in os.listdir(self.storage / "overlay") if len(each) == 64]

    def rest(self) -> tuple[list[str], list[str], list[str]]:
        """What is left when nothing is kept for a next pull any more."""
        self.launcher.docker("image", "prune", "-f")
        return self.left()

    def left(self) -> tuple[list[str], list[str], list[str]]:
        """Images, layers and files of requests in the store, sorted."""
        images = self.launcher.docker("images", "-aq", "--no-trunc").split()
        return sorted(images), sorted(self.folders()), sorted(os.listdir(self.storage / "incoming"))


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    if reason := lacking(*lab.PROGRAMS, *registries.PROGRAMS):
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder:
        place = Path(folder)
        (place / "root").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_ROOM}", "none", place / "root"], check=True)
        try:
            with lab.running(place, config=_SETTINGS) as launcher:
                host = getattr(launcher.cnmd.popen, "__self__")  # noqa: B009 - it is some host's `popen`
                plain = registries.running(place / "registry", host.popen, port=_PORT, is_plain=True)
                with plain as registry, wire(host, _WIRE_PORT, _PORT) as made:
                    yield Stage(launcher, registry, made, host)
        finally:
            subprocess.run(["umount", place / "root"], check=True)


@pytest.fixture
def clean(stage: Stage) -> Iterator[Stage]:
    """Only busybox before and after."""
    yield stage
    stage.wire.cut()
    names = stage.launcher.docker("images", "--format", "{{.ID}} {{.Repository}}").splitlines()
    for line in names:
        ident, _, repository = line.partition(" ")
        if repository != "busybox":
            stage.launcher.docker("rmi", "-f", ident)


def _large(seed: bytes) -> bytes:
    """What gzip cannot make smaller."""
    return layer(f"large-{seed.decode()}", os.urandom(_LARGE))


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

    assert (code, "broke off: unexpected EOF" in said) == (1, True), said
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

    assert left(clean.launcher) == [f"mount {clean.launcher.place}/root"]  # the test's own
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
    eventually(lambda: clean.left() == before)
    clean.wire.cut()
    assert "Downloaded newer image" in clean.pull("left")


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


class _Pull:
    """The docker CLI that pulls, in the background."""

    def __init__(self, stage: Stage, image: str) -> None:
        self._process: subprocess.Popen[str] = subprocess.Popen(
            stage.launcher.command("pull", stage.name(f"{image}:1")),
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> _Pull:
        return self

    def __exit__(self, *_: Any) -> None:
        self._process.kill()
        self._process.communicate()

    def leave(self) -> None:
        self._process.kill()

    @property
    def goes_on(self) -> bool:
        return self._process.poll() is None

    def end(self) -> tuple[int, str]:
        """Exit code, and what it said."""
        said = self._process.communicate(timeout=60)[0]
        return self._process.returncode, said


def _podmans(stage: Stage) -> list[int]:
    """Those that pull into the launcher's store."""
    marks = (str(stage.launcher.place), "pull")
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                command = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            words = [word.decode(errors="replace") for word in command]
            if words[0].endswith("/podman") and marks[1] in words and any(marks[0] in word for word in words):
                found.append(int(folder.name))
    return found


def _await_end(processes: list[int]) -> None:
    for process in processes:
        try:
            descriptor = os.pidfd_open(process)
        except ProcessLookupError:
            continue
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            assert poll.poll(30_000), f"podman {process} goes on"
        finally:
            os.close(descriptor)

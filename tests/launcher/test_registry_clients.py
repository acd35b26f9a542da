"""Clients of slow registries, slow clients, and those that go away: nobody else waits, nothing goes on for nobody."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.docker.docker_lab import eventually
from tests.support.registry_images import layer
from tests.support.registry_stage import (
    LARGE,
    PROGRAMS,
    Client,
    Stage,
    await_end,
    large,
    podmans,
    pulling,
    staged,
)
from tests.support.terminal import on_a_terminal
from tests.support.unpacked import environment, lacking

_MANY = 70
"""More than the launcher has workers."""
_PATIENCE = 30.0


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    if reason := lacking(*PROGRAMS):
        pytest.skip(reason)
    with staged() as stage:
        yield stage
        assert "Traceback" not in stage.launcher.log, stage.launcher.log


@pytest.fixture
def clean(stage: Stage) -> Iterator[Stage]:
    """Only busybox before and after."""
    yield stage
    stage.clear()


def _dial(stage: Stage, head: str) -> socket.socket:
    """A client that has said this much of a request."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(_PATIENCE)
    client.connect(stage.launcher.socket)
    client.sendall(f"{head}\r\nHost: docker\r\n".encode())
    return client


def _asking_to_pull(stage: Stage, image: str) -> socket.socket:
    client = _dial(stage, f"POST /images/create?fromImage={stage.name(image)}&tag=1 HTTP/1.1")
    client.sendall(b"Content-Length: 0\r\n\r\n")
    return client


# Nobody waits for others


def test_pulls_from_a_silent_registry_hold_nobody_up(clean: Stage) -> None:
    clean.wire.stop_after(0)
    clients = [_asking_to_pull(clean, "silent") for _ in range(_MANY)]
    assert clean.wire.stands_still.wait(_PATIENCE)
    programs = podmans(clean)

    shown = clean.launcher.docker("ps", "-q")

    assert shown == ""
    assert len(programs) == 1
    for client in clients:
        client.close()
    await_end(programs)


@pytest.mark.parametrize(
    "request_line",
    [
        "POST /images/load",
        "POST /images/create?fromSrc=-",
        "POST /build",
        "PUT /containers/one/archive?path=/tmp",
    ],
)
def test_uploads_that_do_not_come_hold_nobody_up(clean: Stage, request_line: str) -> None:
    clean.launcher.docker("create", "--name", "one", "busybox")
    before = clean.left()
    clients = [_dial(clean, f"{request_line} HTTP/1.1") for _ in range(_MANY)]
    for client in clients:
        client.sendall(b"Transfer-Encoding: chunked\r\n\r\n400\r\nhalf a chunk")

    assert clean.launcher.docker("ps", "-q") == ""

    for client in clients:
        client.close()
    eventually(lambda: clean.left() == before)
    clean.launcher.docker("rm", "one")


# Clients that go away


def _leave(stage: Stage, client: Client, verb: str) -> None:
    """As soon as the wire stands still; what works for it, `podman VERB`, ends."""
    assert stage.wire.stands_still.wait(_PATIENCE)
    programs = podmans(stage, verb)
    client.leave()
    assert programs
    await_end(programs)


@pytest.mark.parametrize("verb", ["pull", "pull --all-tags", "push", "login", "search"])
def test_who_leaves_a_registry_that_does_not_answer_ends_what_asks_it(clean: Stage, verb: str) -> None:
    clean.put("asked", layer("asked", b"asked"))
    clean.pull("asked")
    before, name = clean.left(), clean.name("asked")
    words = {
        "pull": ("pull", f"{name}:1"),
        "pull --all-tags": ("pull", "--all-tags", name),
        "push": ("push", f"{name}:1"),
        "login": ("login", "-u", "jo", "-p", "secret", clean.name("").rstrip("/")),
        "search": ("search", name),
    }[verb]
    clean.wire.stop_after(0)
    with Client(clean, *words) as client:
        _leave(clean, client, "search" if verb == "pull --all-tags" else words[0])

    eventually(lambda: clean.left() == before)
    clean.wire.cut()
    clean.launcher.docker(*words)


def test_who_leaves_a_pull_amid_a_layer_leaves_nothing(clean: Stage) -> None:
    clean.put("left", large(b"l"))
    before = clean.left()
    clean.wire.stop_after(LARGE // 2)
    with pulling(clean, "left") as pull:
        _leave(clean, pull, "pull")

    eventually(lambda: clean.left() == before)
    clean.wire.cut()
    assert "Downloaded newer image" in clean.pull("left")


def test_who_leaves_while_another_pulls_the_same_is_forgotten(clean: Stage) -> None:
    clean.put("shared", large(b"h"))
    since = clean.launcher.docker("info", "--format", "{{.SystemTime}}")
    clean.wire.stop_after(LARGE // 2)
    with pulling(clean, "shared") as pull:
        assert clean.wire.stands_still.wait(_PATIENCE)
        _asking_to_pull(clean, "shared").close()
        clean.wire.flow()
        code, said = pull.end()

    assert code == 0, said
    assert "Image is up to date" in clean.pull("shared")
    until = clean.launcher.docker("info", "--format", "{{.SystemTime}}")
    told = clean.launcher.docker("events", "--since", since, "--until", until, "--filter", "event=pull")
    assert len(told.splitlines()) == 2


def test_who_leaves_a_push_ends_it(clean: Stage, tmp_path: Path) -> None:
    name = _imported(clean, tmp_path, "leaving")
    before = clean.left()
    clean.wire.stop_after(LARGE // 2, of_server=False)
    with Client(clean, "push", name) as push:
        _leave(clean, push, "push")

    eventually(lambda: clean.left() == before)
    clean.wire.cut()
    assert "digest: sha256:" in clean.launcher.docker("push", name)


def test_who_leaves_a_save_ends_it(clean: Stage, tmp_path: Path) -> None:
    name = _imported(clean, tmp_path, "saved")
    before = clean.left()
    with Client(clean, "save", name) as save:
        eventually(lambda: bool(podmans(clean, "save")))
        programs = podmans(clean, "save")
        save.leave()
        await_end(programs)

    assert clean.left() == before
    clean.launcher.docker("save", "-o", str(tmp_path / "whole.tar"), name)
    assert "Loaded image" in clean.launcher.docker("load", "-i", str(tmp_path / "whole.tar"))


@pytest.mark.parametrize("words", [("load",), ("import", "-", "half")])
def test_who_leaves_amid_an_upload_leaves_nothing(
    clean: Stage, tmp_path: Path, words: tuple[str, ...]
) -> None:
    archive = tmp_path / "saved.tar"
    clean.launcher.docker("save", "-o", str(archive), "busybox")
    content = archive.read_bytes()
    before = clean.left()
    with Client(clean, *words, stdin=subprocess.PIPE) as client:
        assert client.process.stdin
        os.write(client.process.stdin.fileno(), content[: len(content) // 2])
        eventually(lambda: clean.left()[2] != before[2])
        client.leave()

    eventually(lambda: clean.left() == before)


def _imported(stage: Stage, place: Path, image: str) -> str:
    """The name of an image that no registry has."""
    archive = place / "layer.tar"
    archive.write_bytes(large(image.encode()))
    name = stage.name(f"{image}:1")
    stage.launcher.docker("import", str(archive), name)
    return name


# Registries that die


def _told_when_it_dies(stage: Stage, client: Client) -> str:
    """What a client that fails by it says; the registry is there again."""
    assert stage.wire.stands_still.wait(_PATIENCE)
    stage.registry.stop()
    stage.wire.cut()
    code, said = client.end()
    stage.registry.start()
    assert code == 1
    return said


def test_a_registry_that_dies_amid_a_push_is_told_of(clean: Stage, tmp_path: Path) -> None:
    name = _imported(clean, tmp_path, "dying")
    before = clean.left()
    clean.wire.stop_after(LARGE // 2, of_server=False)
    with Client(clean, "push", name) as push:
        said = _told_when_it_dies(clean, push)

    assert "the connection to 127.0.0.1:5001 broke off: " in said.splitlines()[-1], said
    assert ": Pushed" not in said
    assert clean.left() == before
    assert "digest: sha256:" in clean.launcher.docker("push", name)


def test_a_registry_that_dies_before_its_first_word_is_told_of(clean: Stage) -> None:
    clean.put("mute", layer("mute", b"mute"))
    before = clean.left()
    clean.wire.stop_after(0)
    with pulling(clean, "mute") as pull:
        said = _told_when_it_dies(clean, pull)

    assert "the connection to 127.0.0.1:5001 broke off: " in said, said
    assert clean.left() == before
    assert "Downloaded newer image" in clean.pull("mute")


# How far it is


def test_a_pull_tells_how_far_it_is(clean: Stage) -> None:
    put = clean.put("shown", large(b"w"))
    clean.wire.stop_after(LARGE // 2)
    with _asking_to_pull(clean, "shown") as client, client.makefile("rb") as lines:
        seen = next(each for each in _told(lines) if each.get("status") == "Downloading" and _is_amid(each))
        assert clean.wire.stands_still.wait(_PATIENCE)
        clean.wire.flow()
        rest = list(_told(lines))

    detail = seen["progressDetail"]
    assert seen["id"] == put.layers[0].removeprefix("sha256:")[:12]
    assert 0 < detail["current"] < detail["total"]
    assert LARGE * 0.9 < detail["total"] < LARGE * 1.1
    assert seen["progress"].startswith("[=")
    assert rest[-1]["status"].startswith("Status: Downloaded newer image")


def _told(lines: Any) -> Iterator[dict[str, Any]]:
    """JSON lines of a chunked answer."""
    return (json.loads(line) for line in lines if line.startswith(b"{"))


def _is_amid(message: dict[str, Any]) -> bool:
    detail = message["progressDetail"]
    return bool(0 < detail.get("current", 0) < detail["total"])


def test_the_docker_cli_shows_a_bar_on_a_terminal(clean: Stage) -> None:
    clean.put("bar", large(b"b"))
    clean.wire.stop_after(LARGE // 2)
    command = clean.launcher.command("pull", clean.name("bar:1"))
    with on_a_terminal(command, env={**environment(), "TERM": "xterm"}, columns=160) as terminal:
        terminal.expect("Downloading")
        terminal.expect("=>")
        shown = terminal.expect("MB/")
        clean.wire.flow()
        terminal.expect("Pull complete")
        terminal.expect("Downloaded newer image")

    assert any(character.isdigit() for character in shown)


# Several at once


def test_layers_come_side_by_side(clean: Stage) -> None:
    clean.put("wide", large(b"1"), large(b"2"))
    clean.wire.stop_after(1 << 16)
    with pulling(clean, "wide") as pull:
        are_side_by_side = clean.wire.await_waiting(2, _PATIENCE)
        clean.wire.flow()
        code, said = pull.end()

    assert are_side_by_side
    assert code == 0, said


def test_several_clients_pull_push_and_build_at_once(clean: Stage, tmp_path: Path) -> None:
    images = ["first", "second", "third"]
    for image in images:
        clean.put(image, large(image.encode()))
    pushed = _imported(clean, tmp_path, "sent")
    project = tmp_path / "project"
    project.mkdir()
    (project / "Dockerfile").write_text(f"FROM {clean.name('first:1')}\nLABEL made=yes\n")
    work = [
        *(("pull", clean.name(f"{image}:1")) for image in images),
        ("push", pushed),
        ("build", "-t", "made", str(project)),
        ("pull", clean.name("first:1")),
    ]

    with ThreadPoolExecutor(len(work)) as pool:
        done = list(pool.map(lambda words: clean.launcher.run(*words), work))

    assert [each.returncode for each in done] == [0] * len(work), [each.stderr for each in done]
    for image in (*(clean.name(f"{image}:1") for image in images), "made"):
        assert clean.launcher.docker("image", "inspect", "-f", "{{.Id}}", image)
    assert clean.left()[2] == []

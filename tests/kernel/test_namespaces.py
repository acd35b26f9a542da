"""Namespaces from threads: made and entered without a child process, sockets that stay, and threads that come home."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cnm.errors import Conflict, KernelError, NotFound
from cnm.kernel.namespaces import Namespaces, list_directory
from cnm.kernel.state import HOST
from netns_fixtures import syscalls

_SIOCGSKNS = 0x894C
_CHILDREN = frozenset({"os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen"})
_heard: list[str] | None = None


def _listen(event: str, _arguments: object) -> None:
    if _heard is not None and event in _CHILDREN:
        _heard.append(event)


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    made = Namespaces()
    yield made
    made.close()


@pytest.fixture
def paths(namespaces: Namespaces, tmp_path: Path) -> Iterator[list[str]]:
    """Four namespaces."""
    made = [str(tmp_path / f"n{number}") for number in range(4)]
    for path in made:
        with namespaces.created(path):
            pass
    yield made
    for path in made:
        namespaces.remove(path)


def here() -> int:
    """The namespace that the calling thread is in."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def namespace_of(made: socket.socket) -> int:
    descriptor = fcntl.ioctl(made, _SIOCGSKNS)
    try:
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def test_a_namespace_is_another_one_and_the_thread_is_home_again(
    namespaces: Namespaces, tmp_path: Path
) -> None:
    path, home = str(tmp_path / "made"), here()

    with namespaces.created(path):
        inside = here()

    assert inside != home == here()
    assert os.stat(path).st_ino == inside
    namespaces.remove(path)
    assert not os.path.exists(path)


def test_no_child_process_is_made_for_any_of_it(namespaces: Namespaces, tmp_path: Path) -> None:
    global _heard
    sys.addaudithook(_listen)
    path = str(tmp_path / "made")
    _heard = []
    try:
        with namespaces.created(path):
            pass
        with namespaces.inside(path), socket.socket():
            pass
        namespaces.remove(path)
        unheard = list(_heard)
        subprocess.run(["true"], check=True)  # the ear works
        heard = list(_heard)
    finally:
        _heard = None

    assert unheard == []
    assert heard


def test_a_socket_made_inside_stays_there(namespaces: Namespaces, paths: list[str]) -> None:
    with namespaces.inside(paths[0]):
        made = socket.socket()

    with made:
        assert namespace_of(made) == os.stat(paths[0]).st_ino
    with socket.socket() as at_home:
        assert namespace_of(at_home) == here()


def test_the_host_s_own_namespace_is_inside_already(namespaces: Namespaces) -> None:
    home = here()

    with namespaces.inside(HOST):
        assert here() == home


def test_whoever_fails_inside_comes_home(namespaces: Namespaces, paths: list[str], tmp_path: Path) -> None:
    home, path = here(), str(tmp_path / "made")

    with pytest.raises(ZeroDivisionError), namespaces.inside(paths[0]):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), namespaces.created(path):
        raise ZeroDivisionError

    assert here() == home
    assert not os.path.exists(path)


def test_many_threads_are_each_where_they_went_and_nobody_else_is_moved(
    namespaces: Namespaces, paths: list[str]
) -> None:
    home, wanted = here(), {path: os.stat(path).st_ino for path in paths}
    start = threading.Barrier(8)

    def visit(number: int) -> bool:
        start.wait(30)
        for turn in range(200):
            path = paths[(number + turn) % len(paths)]
            with namespaces.inside(path), socket.socket() as made:
                if (here(), namespace_of(made)) != (wanted[path], wanted[path]):
                    return False
            if here() != home:
                return False
        return True

    with ThreadPoolExecutor(8) as threads:
        visits = [threads.submit(visit, number) for number in range(8)]
        while not all(visit.done() for visit in visits):
            assert here() == home

    assert all(visit.result() for visit in visits)


def test_visits_leave_no_descriptor_open(namespaces: Namespaces, paths: list[str]) -> None:
    before = len(os.listdir("/proc/self/fd"))

    for path in paths * 10:
        with namespaces.inside(path):
            pass

    assert len(os.listdir("/proc/self/fd")) == before


def test_a_namespace_outlives_its_file_while_a_socket_is_in_it(
    namespaces: Namespaces, tmp_path: Path
) -> None:
    path = str(tmp_path / "made")
    with namespaces.created(path):
        held = socket.socket()

    namespaces.remove(path)

    with held:
        assert not namespaces.is_alive(path)
        assert namespace_of(held)


def test_what_stands_at_the_path_is_not_overwritten(namespaces: Namespaces, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")

    with pytest.raises(Conflict, match="exists already"), namespaces.created(str(taken)):
        pytest.fail("entered")

    assert taken.read_text() == "mine"


def test_a_file_that_is_no_network_namespace_is_refused_by_name(
    namespaces: Namespaces, tmp_path: Path
) -> None:
    regular, mounts, missing = tmp_path / "regular", tmp_path / "mounts", tmp_path / "missing"
    for file in (regular, mounts):
        file.touch()
    syscalls.mount("/proc/self/ns/uts", str(mounts), flags=syscalls.MS_BIND)

    try:
        for path in (regular, mounts, missing):
            with pytest.raises(NotFound, match=str(path)):
                namespaces.open(str(path))
        assert [namespaces.is_alive(str(path)) for path in (regular, mounts, missing)] == [False] * 3
    finally:
        syscalls.umount(str(mounts))


def test_removing_what_is_not_there_is_no_error(namespaces: Namespaces, tmp_path: Path) -> None:
    namespaces.remove(str(tmp_path / "never"))
    namespaces.remove(str(tmp_path / "no" / "such" / "folder"))


@pytest.mark.parametrize("below", ["file/made", "file/deep/made"])
def test_a_folder_that_cannot_be_made_is_said_by_name(
    namespaces: Namespaces, tmp_path: Path, below: str
) -> None:
    (tmp_path / "file").touch()

    with (
        pytest.raises((KernelError, Conflict), match=str(tmp_path / "file")),
        namespaces.created(str(tmp_path / below)),
    ):
        pytest.fail("entered")


def test_a_folder_of_namespaces_is_listed_in_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).touch()

    assert list_directory(str(tmp_path)) == (str(tmp_path / "a"), str(tmp_path / "b"))
    assert list_directory(str(tmp_path / "missing")) == ()

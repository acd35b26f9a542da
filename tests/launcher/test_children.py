"""podman's failures are heard of, however slowly whoever asked for its work reads what comes of it."""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from cnm.errors import CnmError
from cnm.kernel.processes import has_ended
from cnm.launcher.children import Child
from cnm.launcher.exits import Exits
from cnm.launcher.podman import Podman
from cnm.launcher.programs import Programs
from cnm.launcher.registry_client import RegistryClient
from cnm.launcher.transfer import Transfer, TransferFailed
from tests.support.small_containers import PATIENCE

_CHUNK = 1 << 20
_BETWEEN_SECONDS = 2.0


@pytest.fixture
def watcher() -> Iterator[Exits]:
    made = Exits()
    yield made
    made.close()


def _take_strays(watcher: Exits) -> None:
    """As it does while a client is slow: whoever is dead at two looks is reaped; a while is between them."""
    watcher._reap_stray()
    deadline = time.monotonic() + _BETWEEN_SECONDS
    while _is_one_dead() and time.monotonic() < deadline:
        time.sleep(0.01)
    watcher._reap_stray()


def _is_one_dead() -> bool:
    """Of this process's children, and nobody has waited for it."""
    with suppress(ChildProcessError):
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return False


def test_a_transfer_that_fails_while_nobody_listens_has_failed(watcher: Exits) -> None:
    program = "import sys; sys.stderr.write('Getting image source signatures\\nit broke\\n'); sys.exit(3)"
    with Transfer([sys.executable, "-c", program], {}) as transfer:
        lines = iter(transfer)
        next(lines)
        assert transfer._child.has_ended(PATIENCE)
        _take_strays(watcher)

        with pytest.raises(TransferFailed, match="it broke"):
            list(lines)


def test_an_archive_that_fails_while_nobody_reads_has_failed(watcher: Exits) -> None:
    with tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder:
        pid = Path(folder, "pid")
        client = _client(Path(folder), f"echo $$ >{pid}; head -c {_CHUNK + 10} /dev/zero; exit 1")
        pieces = client.saving("an-image")
        assert len(next(pieces)) == _CHUNK
        assert has_ended(int(pid.read_text()), PATIENCE)
        _take_strays(watcher)

        with pytest.raises(CnmError, match="podman save failed"):
            list(pieces)

        assert list(Path(folder, "scratch").iterdir()) == []


def test_an_archive_that_nobody_wants_any_more_ends() -> None:
    with tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder:
        pieces = _client(Path(folder), "cat /dev/zero").saving("an-image")
        next(pieces)

        pieces.close()  # type: ignore[attr-defined]

        assert list(Path(folder, "scratch").iterdir()) == []


def _client(folder: Path, script: str) -> RegistryClient:
    """Of a podman that does this."""
    fake = folder / "podman"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    scratch = folder / "scratch"
    scratch.mkdir()
    podman = Podman(str(folder / "root"), str(folder / "run"), Programs(podman=str(fake)), str(scratch))
    return RegistryClient(podman, str(scratch))


def test_a_transfer_ends_that_has_hardly_begun() -> None:
    """Also before setsid(1) has made the session that is to end."""
    for _ in range(20):
        with Transfer(["sleep", "1000"], {}) as transfer:
            pass

        assert transfer._child.wait() != 0, (
            "setsid(1) may have seen that its terminal is gone before it was killed"
        )


def test_a_child_ends_with_its_block() -> None:
    with Child(["sleep", "1000"], {}) as child:
        assert not child.has_ended(0)

    assert child.wait() == -9


def test_a_transfer_for_which_there_are_no_descriptors_is_told_and_leaves_nothing() -> None:
    before, children = os.listdir("/proc/self/fd"), _children()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = next(number for number in count() if str(number) not in before)
    told = set[str]()
    for more in range(20):
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, limits[1]))
        try:
            with Transfer(["sleep", "1000"], {}):
                pass
        except CnmError as error:
            told.add(str(error))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert os.listdir("/proc/self/fd") == before

    why = "too many open files"
    assert told == {f"sleep gets no terminal: {why}", f"cannot start setsid: {why}"}
    assert _children() == children


def _children() -> list[str]:
    """Processes of this one's, by number."""
    own = f"PPid:\t{os.getpid()}\n"
    found = []
    for path in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            found += [path.parent.name] if own in path.read_text() else []
    return found

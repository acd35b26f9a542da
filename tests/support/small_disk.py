"""Launchers whose disk is small, so that it becomes full."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import launcher as lab
from tests.support.launcher import Launcher
from tests.support.unpacked import lacking


@contextmanager
def small_disk(size: int) -> Iterator[Path]:
    """A place for a cnmd and a launcher; a disk of so many bytes is their root, where all is that they keep."""
    with tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder:
        root = Path(folder, "root")
        root.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", root], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", root], check=True)


@contextmanager
def on_small_disk(size: int) -> Iterator[Launcher]:
    """A launcher there; skips where a program of its is missing."""
    if reason := lacking(*lab.PROGRAMS):
        pytest.skip(reason)
    with small_disk(size) as place, lab.running(place) as launcher:
        yield launcher


def free(launcher: Launcher) -> int:
    """Bytes."""
    found = os.statvfs(launcher.place / "root")
    return found.f_bavail * found.f_frsize


@contextmanager
def filled(launcher: Launcher) -> Iterator[None]:
    """Not a byte is left within the block."""
    filler = launcher.place / "root/filler"
    try:
        with filler.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                _fill(file.fileno(), bytes(size))
        with pytest.raises(OSError, match="No space left"):
            (launcher.place / "root/one-more").write_bytes(b"x")
        yield
    finally:
        filler.unlink()


def _fill(file: int, piece: bytes) -> None:
    while True:
        try:
            if not os.write(file, piece):
                return
        except OSError:
            return

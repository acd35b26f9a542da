"""Run commands inside a namespace: a child inherits the namespaces of the thread that starts it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from netns_fixtures import isolation, syscalls
from netns_fixtures.errors import CommandFailed
from netns_fixtures.namespace import Namespace

_GRACE_SECONDS = 3.0


class Process(subprocess.Popen[str]):
    """A child in a host, leader of a process group of its own, stopped at the latest when the host closes."""

    @property
    def closed(self) -> bool:
        """Whether the child has ended."""
        return self.poll() is not None

    def close(self) -> None:
        """Ask the child's whole group to end, wait, insist; then close its pipes."""
        if self.poll() is None:
            self._signal_group(signal.SIGTERM)
            try:
                self.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self._signal_group(signal.SIGKILL)
                self.wait()
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()

    def _signal_group(self, number: int) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return  # it ended by itself meanwhile


def start(namespace: Namespace, command: Sequence[str], *, sysfs: bool, **options: Any) -> Process:
    """Start a child in a namespace; with `sysfs` in a copy of the mounts whose /sys shows that namespace."""

    def spawn() -> Process:
        with namespace.enter():
            if sysfs:
                _replace_sysfs()
            return Process(command, start_new_session=True, text=True, **options)

    if not sysfs:
        return spawn()
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(spawn).result()


def run(
    namespace: Namespace,
    command: Sequence[str],
    *,
    where: str,
    check: bool,
    timeout: float,
    input: str | None,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; CommandFailed, with what it printed, if it fails or takes too long."""
    pipe = subprocess.PIPE
    stdin = pipe if input is not None else subprocess.DEVNULL
    child = start(namespace, command, stdin=stdin, stdout=pipe, stderr=pipe, **options)
    words = shlex.join(command)
    try:
        output, errors = child.communicate(input, timeout)
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"{where}: `{words}` did not end within {timeout} s", None) from error
    finally:
        child.close()
    if check and child.returncode != 0:
        said = "\n".join(text.rstrip() for text in (output, errors) if text.strip())
        raise CommandFailed(
            f"{where}: `{words}` ended with exit code {child.returncode}\n{said}", child.returncode
        )
    return subprocess.CompletedProcess(command, child.returncode, output, errors)


def _replace_sysfs() -> None:
    """Give the calling thread, which must not live on, a copy of the mounts with another /sys."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    isolation.mount_sysfs()

"""How tests start daemons: each from nothing, or by `make test`, which has many hundred starts, as forks."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from netns_fixtures.host import Host
from tests.support.forked import Forked, can_be_forked, run
from tests.support.thorough import SAMPLED

Popen = Callable[..., Any]
"""What starts a program: subprocess.Popen, a netns_fixtures host's `popen`, a partial of these, or a test's own."""

Process = subprocess.Popen[Any] | Forked


def start_daemon(popen: Popen, command: Sequence[str], **options: Any) -> Process:
    """Start `[PYTHON, "-m", module, …]` by `popen`, or where that does nothing special as a fork.

    A test whose daemon must be started from nothing says so by `from_nothing(popen)`.
    """
    while isinstance(popen, partial) and not popen.args:
        options = {**popen.keywords, **options}
        popen = popen.func
    forked = SAMPLED and can_be_forked(command, options.get("env"))
    if forked and popen is subprocess.Popen:
        return Forked(command, **options)
    host = getattr(popen, "__self__", None)
    if forked and isinstance(host, Host) and popen == host.popen:
        return _start_in(host, command, **options)
    if forked and isinstance(popen, PopenWithMounts):
        return _start_in(popen.host, command, mounts=popen.mounts, **options)
    process: Process = popen(command, **options)
    return process


def _start_in(host: Host, command: Sequence[str], **options: Any) -> Forked:
    with host.enter():
        return host.keep(Forked(command, start_new_session=True, **options))


@dataclass(frozen=True)
class PopenWithMounts:
    """Starts a program in a host, with the mounts of a namespace's file `mounts`, in the root directory."""

    host: Host
    mounts: str

    def __call__(self, command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        return self.host.popen(with_mounts(self.mounts, command), **options)


def with_mounts(mounts: str, command: Sequence[str]) -> list[str]:
    """A command that runs this one so."""
    return ["nsenter", f"--mount={mounts}", "--wd=/", "--", *command]


def from_nothing(popen: Popen = subprocess.Popen) -> Popen:
    """For a test of starting: what `popen` does, and never a fork."""
    return lambda command, **options: popen(command, **options)


def run_program(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """The output and exit code of `[PYTHON, "-m", module, …]`, run here."""
    if SAMPLED and can_be_forked(command, None):
        return run(command)
    return subprocess.run(command, capture_output=True, text=True, timeout=60)

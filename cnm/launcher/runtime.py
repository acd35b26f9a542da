"""The OCI runtime's verbs: what runc is asked about a container that its monitor made, and what it answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from cnm.errors import CnmError
from cnm.launcher.programs import Programs

PATIENCE = 60.0
"""Seconds after which a runtime that does not answer is killed."""

_BEGINNING = ("create", "start", "exec")
_ERRORS = ("error", "fatal")
_ABSENT = ("does not exist",)


class _Blame(NamedTuple):
    """What a process that does not begin ends with where the runtime says `words`, and what Docker adds to them."""

    words: str
    exit_code: int
    hint: str = ""


_BLAMES = (
    _Blame("permission denied", 126),
    # Clients know by the hint that it is 126.
    _Blame("is a directory", 126, ": permission denied"),
    _Blame(
        "not a directory",
        127,
        ": Are you trying to mount a directory onto a file (or vice-versa)? "
        "Check if the specified host path exists and is the expected type",
    ),
    _Blame("executable file not found", 127),
    _Blame("no such file or directory", 127),
)
"""dockerd finds the request to blame by the same words, in this order (daemon/errors.go of 28)."""


class RuntimeFailed(CnmError):
    """The runtime refused; `words` are its own, without a prefix."""

    def __init__(self, doing: str, words: str) -> None:
        self.words = words
        found = (blame for blame in _BLAMES if doing in _BEGINNING and blame.words in words.lower())
        self._blame = next(found, None)
        super().__init__(f"OCI runtime {doing} failed: {self.told}")

    @property
    def told(self) -> str:
        """Its words as Docker passes them on."""
        return f"{self.words}: unknown{self._blame.hint if self._blame else ''}"

    @property
    def process_exit_code(self) -> int | None:
        """Of a process that did not begin, where the request is to blame: 127 something is not there, 126 it cannot be
        run; else None.
        """
        return self._blame.exit_code if self._blame else None


class RuntimeState(NamedTuple):
    """`status` is creating, created, running, paused or stopped; `pid` 0 where there is no process."""

    status: str
    pid: int


class Runtime:
    """One runtime program with its containers' state below `root`. Verbs raise RuntimeFailed."""

    def __init__(
        self, programs: Programs, root: str, program: str = "runc", before: Sequence[str] = ()
    ) -> None:
        """`before` is a command line that runs the program's in surroundings of its choice."""
        self.programs, self.root, self.program = programs, root, program
        self._before = before

    def beginning(self) -> list[str]:
        """How its command lines begin. Raises Unavailable where the program is not installed."""
        if not self._before:
            return [self.programs.path(self.program)]
        return [self.programs.find(self._before[0]), *self._before[1:], self.programs.path(self.program)]

    def command(self, *arguments: str) -> list[str]:
        """Its errors are JSON lines, which `failure` reads."""
        return [*self.beginning(), "--root", self.root, "--log-format", "json", *arguments]

    def start(self, container: str) -> None:
        """Let a created container's process begin."""
        self._ask("start", container)

    def kill(self, container: str, number: int, every: bool = False) -> None:
        """Send a signal to the first process, or to every one."""
        self._ask("kill", *(["--all"] if every else []), container, str(number))

    def pause(self, container: str) -> None:
        """Freeze every process."""
        self._ask("pause", container)

    def resume(self, container: str) -> None:
        """Thaw every process."""
        self._ask("resume", container)

    def delete(self, container: str, force: bool = False) -> None:
        """Forget a container and remove its cgroups; `force` kills it first, and takes absence for success."""
        self._ask("delete", *(["--force"] if force else []), container)

    def update(self, container: str, resources: dict[str, Any]) -> None:
        """Change the limits to `resources`, which is `linux.resources` of the OCI specification, or a part of it."""
        understood = json.dumps(self.understood(resources)).encode()
        self._ask("update", "--resources", "-", container, given=understood)

    def understood(self, resources: dict[str, Any]) -> dict[str, Any]:
        """`linux.resources` without what this runtime fails at: crun 1.8 writes pids.max as -1, not as "max"."""
        if self.program == "crun" and resources.get("pids") == {"limit": -1}:
            return {key: value for key, value in resources.items() if key != "pids"}
        return resources

    def state(self, container: str) -> RuntimeState | None:
        """How the runtime sees a container, None where it knows none."""
        try:
            told = json.loads(self._ask("state", container))
        except RuntimeFailed as error:
            if any(words in error.words for words in _ABSENT):
                return None
            raise
        return RuntimeState(str(told["status"]), int(told["pid"]))

    def pids(self, container: str) -> list[int]:
        """Of all processes in the container's cgroup, as the host numbers them."""
        return [int(pid) for pid in json.loads(self._ask("ps", "--format", "json", container)) or ()]

    def known(self) -> list[str]:
        """Ids of the containers that the runtime has something of, perhaps no more than a beginning."""
        try:
            return os.listdir(self.root)
        except FileNotFoundError:
            return []

    def has(self, container: str) -> bool:
        """Whether it is among the known: a runtime keeps a folder for each."""
        return os.path.exists(os.path.join(self.root, container))

    def silent(self, doing: str) -> RuntimeFailed:
        """The error of a runtime that was killed for its silence."""
        return RuntimeFailed(doing, f"{self.program} gave no answer for {PATIENCE:.0f} s")

    def _ask(self, verb: str, *arguments: str, given: bytes = b"") -> bytes:
        try:
            done = subprocess.run(
                self.command(verb, *arguments),
                input=given,
                capture_output=True,
                env=self.programs.env,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise self.silent(verb) from None
        if done.returncode != 0:
            raise failure(verb, done.stderr.splitlines(), f"{self.program} {how_ended(done.returncode)}")
        return done.stdout


def how_ended(code: int) -> str:
    """In words; `code` is subprocess'."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"


def failure(doing: str, log: Sequence[bytes], otherwise: str) -> RuntimeFailed:
    """The last error in the runtime's log (JSON lines), else its last line, else `otherwise`."""
    said = list(_said(log))
    words = [text for level, text in said if level in _ERRORS] or [text for _, text in said]
    return RuntimeFailed(doing, words[-1] if words else otherwise)


def _said(log: Sequence[bytes]) -> Iterator[tuple[str, str]]:
    """Level and text of each line; a line that is no JSON has no level."""
    for line in filter(None, map(bytes.strip, log)):
        try:
            entry = json.loads(line)
            yield str(entry["level"]), str(entry["msg"])
        except (ValueError, KeyError, TypeError):
            yield "", line.decode("utf-8", "replace")

"""What podman says on its standard error, and what a failed build is told as, in Docker's words."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cnm.errors import CnmError
from cnm.launcher.building.dockerfile import Instruction, Stage
from cnm.launcher.building.progress import Message, said
from cnm.launcher.building.sources import Sources

_RED, _PLAIN = "\x1b[91m", "\x1b[0m"
_ERROR = "Error: "
_OF_RUNTIME = "error running container: "
_AT_STEP = 'Error: building at STEP "'
_EXITED = ": exit status "
_LOG = 'time="'
_HELD = (_ERROR, _OF_RUNTIME, _EXITED, _LOG)
"""Beginnings of podman's own lines."""
_LONGEST, _MOST_HELD = 1 << 20, 100
"""Characters of such a line; how many of them are waited with for what follows."""
_EXIT = re.compile(r": while running runtime: exit status (?P<code>\d+)$")
_RUNTIME = re.compile(r"error running container: from \S+ creating container for \[.*?\]: (?P<why>.*)")
_ABSENT = re.compile(
    r'checking on sources under ".*?": (?:.*: )?copier: stat: "/?(?P<path>.*?)": no such file or directory'
)
_NOT_SENT = "file not found in build context or excluded by .dockerignore"
_NO_SOURCES = ("Rel: can't make", "no items matching glob")
_OUTSIDE = "possible escaping context directory"
_LOGGED = re.compile(r'(?:time="[^"]*" level=\w+ )?msg="(?P<text>.*)"')
_CLEARING = re.compile(r'time="[^"]*" level=\w+ msg="error unmounting container: .*')
"""What else goes wrong when a step has failed, as on a full disk."""
_SEVERAL = re.compile(r"Error: (?:.*\d errors? occurred:(?:\n\t\* .*)*(?:\n\n: |\n*\Z))+")
_ONE, _WHERE = "\t* ", ": "
"""podman tells of several errors in as many lines, and behind an empty one of where, maybe of several errors again."""
_FULL, _NOT_WRITTEN = "no space left on device", "to file: io: read/write on closed pipe"
"""Of a layer that cannot be written podman forgets why."""
_COPIES = ("Getting image source", "Copying blob", "Copying config", "Writing manifest", "Storing signatures")
_SHELL = ["/bin/sh", "-c"]


class BuildFailed(CnmError):
    """`code` is the exit code of a RUN step, 1 for anything else that went wrong."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code

    def message(self) -> Message:
        """As the stream ends with it."""
        return failure(self, self.code)


def failure(error: CnmError, code: int = 0) -> Message:
    detail = {"code": code} if code else {}
    return {"errorDetail": {**detail, "message": str(error)}, "error": str(error)}


class Complaints:
    """One build's standard error: what a step says there passes, what podman itself says of the failure is kept."""

    def __init__(self, sources: Sources, *, hides_copies: bool = False) -> None:
        """`hides_copies`: what is told of layers that are copied is of no interest."""
        self._rest = ""
        self._held: list[str] = []
        self._told = ""
        """What has passed, but may be podman's last word, when it has logged something behind it."""
        self._sources, self._hides_copies = sources, hides_copies

    def feed(self, text: str) -> Iterator[Message]:
        *lines, self._rest = (self._rest + text).split("\n")
        for whole in lines:
            line = whole
            if (begun := line.rfind(_AT_STEP)) > 0:  # behind what a step has left unfinished
                yield said(f"{_RED}{line[:begun]}{_PLAIN}")
                line = line[begun:]
            if line.startswith(_HELD):
                yield from self._hold(line)
            elif self._is_one_of_several(line):
                self._held[-1] += f"\n{line}"
            elif (told := self._sources.heard(line)) is not None:
                yield from told
            elif not (self._hides_copies and line.startswith(_COPIES)):
                yield from self._passed(line)
        if self._rest and not _may_be_podmans(self._rest) and not self._is_one_of_several(self._rest):
            yield from self._released()
            yield said(f"{_RED}{self._rest}{_PLAIN}")
            self._rest = ""

    def end(self, *, failed: bool) -> Iterator[Message]:
        """Nothing more comes. What a step has said in words like podman's passes now, all but podman's last of them."""
        if self._rest:
            self._held.append(self._rest)
            self._rest = ""
        own = self._own() if failed else []
        self._held = [line for line in self._held if line not in own]
        yield from self._released()
        if any(_CLEARING.fullmatch(line) and _FULL in line for line in own) and _EXIT.search(own[-1]):
            # The step may have said something else, as "I/O error".
            yield said(f"{_RED}{_FULL}: make room\n{_PLAIN}")
        self._held = own

    def _is_one_of_several(self, line: str) -> bool:
        """Whether a line, or the beginning of one, belongs to the one that is held."""
        if (
            not self._held
            or len(self._held[-1]) + len(line) > _LONGEST
            or not _SEVERAL.fullmatch(self._held[-1])
        ):
            return False
        follows = _WHERE if self._held[-1].endswith("\n") else _ONE
        return line.startswith(follows) or follows.startswith(line)

    def _hold(self, line: str) -> Iterator[Message]:
        self._held.append(line)
        if len(self._held) > _MOST_HELD:
            yield said(f"{_RED}{self._held.pop(0)}\n{_PLAIN}")

    def _own(self) -> list[str]:
        """What it could not clear away, why the runtime could not run a step, and podman's last line."""
        of_runtime = [line for line in self._held if _RUNTIME.fullmatch(line)]
        ends = [line for line in self._held if line.startswith(_EXITED)] if of_runtime else []
        clearing = [line for line in self._held if _CLEARING.fullmatch(line)]
        return [*clearing, *of_runtime, *ends, *[line for line in self._held if line.startswith(_ERROR)][-1:]]

    def _passed(self, line: str) -> Iterator[Message]:
        yield from self._released()
        yield said(f"{_RED}{line}\n{_PLAIN}" if line else "\n")

    def _released(self) -> Iterator[Message]:
        held, self._held = self._held, []
        self._told = next((line for line in reversed(held) if line.startswith(_AT_STEP)), self._told)
        yield from (said(f"{_RED}{line}\n{_PLAIN}") for line in held)

    def reason(self, step: str, stage: Stage, shell: list[str] | None) -> BuildFailed:
        """Why it failed at `step`; `shell` is that of the image that the stage began with."""
        last = self._held[-1] if self._held else self._told
        text = last.removeprefix(_ERROR) or "the build ended without saying why"
        for found in filter(None, map(_RUNTIME.fullmatch, self._held)):
            return BuildFailed(f"OCI runtime create failed: {_unlogged(found['why'])}: unknown")
        word, _, rest = step.partition(" ")
        if exited := _EXIT.search(text):
            code = int(exited["code"])
            command = " ".join(_command(step, rest, stage, shell))
            return BuildFailed(f"The command '{command}' returned a non-zero code: {code}", code)
        if word.upper() in ("ADD", "COPY") and (why := _of_sources(text, rest)):
            return BuildFailed(f"{word.upper()} failed: {why}")
        if unfetched := self._sources.failed(text, stage.base):
            return BuildFailed(str(unfetched))
        if _FULL in text:
            return BuildFailed(f"{word} failed: {_FULL}: make room, and try again")
        if _NOT_WRITTEN in text:
            return BuildFailed(
                f"{word} failed: its layer cannot be written, most likely for {_FULL}: make room"
            )
        at_step = f'building at STEP "{step}": '
        if text.startswith(at_step):
            return BuildFailed(f"{word} failed: {text.removeprefix(at_step)}")
        return BuildFailed(text)


def _may_be_podmans(beginning: str) -> bool:
    if len(beginning) > _LONGEST:
        return False
    return any(each.startswith(beginning) or beginning.startswith(each) for each in _HELD)


def _of_sources(text: str, arguments: str) -> str:
    """What is wrong with the files that a step copies, where podman's words tell; else ""."""
    if absent := _ABSENT.search(text):
        if _OUTSIDE in text:
            outside = next((each for each in arguments.split() if each.startswith("..")), absent["path"])
            return f"forbidden path outside the build context: {outside} ()"
        return f"{_NOT_SENT}: stat {absent['path']}: file does not exist"
    return "no source files were specified" if any(each in text for each in _NO_SOURCES) else ""


def _unlogged(text: str) -> str:
    """A line of the runtime's log without what stands around it."""
    found = _LOGGED.fullmatch(text)
    return found["text"].replace('\\"', '"') if found else text


def _command(step: str, rest: str, stage: Stage, shell: list[str] | None) -> list[str]:
    """The words that a RUN step runs; a SHELL step before it counts."""
    run = Instruction("RUN", rest, 0)
    if (words := run.command) is not None:
        return words
    found = shell or _SHELL
    for each in stage.steps:
        if each.text == step:
            break
        if each.word == "SHELL":
            found = each.command or found
    return [*found, run.arguments]

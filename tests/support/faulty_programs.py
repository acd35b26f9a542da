"""runc, conmon and podman that fail when they are told to, and are themselves otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from tests.support.unpacked import program

_NAMES = ("runc", "conmon", "podman")
_SCRIPT = """\
#!/bin/sh
if [ -e {fault} ]; then
    {{ read -r verb; read -r how; }} < {fault}
    for word in "$@" ""; do
        [ "$word" = "$verb" ] || continue
        case "$how" in
            fails) echo '{name} is broken' >&2; exit 1 ;;
            hangs) while :; do sleep 0.1; done ;;
            dies) kill -s KILL $$ ;;
            "dies afterwards") {real} "$@"; kill -s KILL $$ ;;
        esac
    done
fi
while [ -e {held} ]; do sleep 0.02; done
exec {real} "$@"
"""


class How(Enum):
    """What becomes of a faulty program; DIES by SIGKILL, and does its work before where it DIES_AFTERWARDS."""

    FAILS = "fails"
    HANGS = "hangs"
    DIES = "dies"
    DIES_AFTERWARDS = "dies afterwards"


class FaultyPrograms:
    """In `place`/faulty, beside a launcher that has `config` in its settings."""

    def __init__(self, place: Path) -> None:
        self._folder = place / "faulty"
        self._folder.mkdir(exist_ok=True)
        for name in _NAMES:
            path = self._folder / name
            held = self._folder / f"{name}.held"
            script = _SCRIPT.format(name=name, fault=self._fault(name), held=held, real=program(name))
            path.write_text(script)
            path.chmod(0o755)

    @property
    def config(self) -> str:
        return "\n".join(f'{name} = "{self._folder / name}"' for name in _NAMES)

    def _fault(self, name: str) -> Path:
        return self._folder / f"{name}.fault"

    def fail(self, name: str, verb: str, how: How = How.FAILS) -> None:
        """From now on, wherever this word is among the arguments; always for ""."""
        self._fault(name).write_text(f"{verb}\n{how.value}\n")

    def mend(self) -> None:
        for name in _NAMES:
            self._fault(name).unlink(missing_ok=True)

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """In the block it does not begin with what it is asked for."""
        held = self._folder / f"{name}.held"
        held.touch()
        try:
            yield
        finally:
            held.unlink()

    @contextmanager
    def absent(self, name: str) -> Iterator[None]:
        path = self._folder / name
        path.rename(f"{path}.away")
        try:
            yield
        finally:
            Path(f"{path}.away").rename(path)

"""A program whose forks are launchers: real ones that serve, and real ones that kill themselves within a verb.

Python and its modules are loaded once for all of them. It reads a JSON object a line and answers with one:
{"serve": true} with {"pid": N}; {"verb": "run", "arguments": [...], "at": N} with {"died": true, "error": "",
"points": [...]}: what lay on the way, of which the N-th was the last; -1 for one that is not to die.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from cnm.config import Settings, load
from cnm.errors import CnmError
from cnm.kernel import mounting, processes
from cnm.launcher import daemon, monitor, records, runtime
from cnm.launcher.cnmd import Cnmd
from cnm.launcher.container import Status
from cnm.launcher.engine import Engine
from cnm.launcher.places import Places
from cnm.launcher.volumes import copy_up, plugin_driver, users
from cnm.launcher.volumes import records as volume_records
from cnm.log_format import start_logging
from cnm.wire.containers import ContainerCreate, ContainerUpdate
from cnm.wire.engine import EndpointSettings

_SECONDS = 20.0
_BODIES: dict[str, dict[int, Any]] = {
    "create": {1: ContainerCreate},
    "update": {1: ContainerUpdate},
    "connect": {2: EndpointSettings},
}
"""Which arguments of a verb are records."""


class Points:
    """Before, during and after each call to the outside; the process dies at the one numbered `at`."""

    def __init__(self, log: Path, at: int) -> None:
        self._log, self._at = log, at
        self._lock = threading.Lock()
        self._passed = -1
        self._armed = False

    def arm(self) -> None:
        self._armed = True

    def passes(self, text: str) -> bool:
        """Whether this is where it ends."""
        if not self._armed:
            return False
        with self._lock:
            self._passed += 1
            with self._log.open("a") as log:
                log.write(f"{text}\n")
            return self._passed == self._at

    def point(self, text: str) -> None:
        if self.passes(text):
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, name: str, named: Callable[..., str]) -> None:
        """A point before and one after each call of this function."""
        original = getattr(owner, name)

        def called(*arguments: Any, **options: Any) -> Any:
            text = named(*arguments)
            self.point(f"before {text}")
            result = original(*arguments, **options)
            self.point(f"after {text}")
            return result

        setattr(owner, name, called)

    def in_runtime(self) -> None:
        """One more while the runtime is at work, which goes on."""
        original = runtime.Runtime._ask

        def asked(own: runtime.Runtime, verb: str, *arguments: str, given: bytes = b"") -> bytes:
            if self.passes(f"during {own.program} {verb}"):
                subprocess.Popen(
                    own.command(verb, *arguments),
                    stdin=subprocess.PIPE if given else subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=own.programs.env,
                )
                os.kill(os.getpid(), signal.SIGKILL)
            return original(own, verb, *arguments, given=given)

        runtime.Runtime._ask = asked  # type: ignore[method-assign]


def _wrap(points: Points) -> None:
    points.in_runtime()
    points.around(runtime.Runtime, "_ask", lambda own, verb, *_: f"{own.program} {verb}")
    points.around(monitor.Monitor, "create", lambda *_: "the monitor's creation")
    points.around(monitor.subprocess, "Popen", lambda command, *_: f"starting {os.path.basename(command[0])}")
    points.around(monitor, "_line", lambda *_: "hearing of the monitor")
    points.around(Cnmd, "forward", lambda _own, method, path, *_: f"cnmd {method} {path.split('/')[1:4]}")
    points.around(mounting, "mount", lambda *_: "mount")
    points.around(mounting, "bind_mapped", lambda *_: "mapped bind")
    points.around(mounting, "unmount", lambda *_: "unmount")
    points.around(records.Records, "_replace", lambda _own, path, *_: f"writing {os.path.basename(path)}")
    points.around(records.Records, "delete", lambda *_: "deleting the record")
    points.around(volume_records.Records, "write", lambda *_: "writing a volume's record")
    points.around(volume_records.Records, "delete", lambda *_: "deleting a volume's folder")
    points.around(users.Users, "add", lambda *_: "noting down who has a volume")
    points.around(users.Users, "drop", lambda *_: "noting down who has a volume no more")
    points.around(plugin_driver.PluginDriver, "_call", lambda _own, method, *_: f"the plugin's {method}")
    points.around(copy_up, "_note_down", lambda *_: "noting down a copy")
    points.around(copy_up, "_make", lambda name, *_: f"copying {name}")
    points.around(os, "rename", lambda *_: "renaming")
    points.around(os, "makedirs", lambda *_: "making a folder")
    points.around(shutil, "rmtree", lambda *_: "removing a folder")


def _die_within(settings: Settings, asked: dict[str, Any], log: Path) -> None:
    places = Places(settings.root, settings.run)
    places.make()
    points = Points(log, asked["at"])
    _wrap(points)
    engine = daemon.make_engine(settings, places)
    engine.start()
    verb, arguments = asked["verb"], list(asked["arguments"])
    for place, kind in _BODIES.get(verb, {}).items():
        arguments[place] = msgspec.convert(arguments[place], kind)
    parts = (engine, engine.stopper, engine.joining)
    act = (
        _VERBS[verb].__get__(engine)
        if verb in _VERBS
        else next(getattr(p, verb) for p in parts if hasattr(p, verb))
    )
    points.arm()
    try:
        act(*arguments, **asked.get("options", {}))
    except CnmError as error:
        log.with_suffix(".error").write_text(str(error))


def _end(engine: Engine, name: str, starts_again: bool) -> None:
    """Its process is killed, by nobody of ours; returns when what follows has been done."""
    before = engine.registry.find(name)
    os.kill(before.state.pid, signal.SIGKILL)

    def is_settled() -> bool:
        state = engine.registry.get(before.id).state
        if starts_again:
            return state.status is Status.RUNNING and state.pid != before.state.pid
        return state.status is Status.EXITED

    if not engine.registry.wait(is_settled, _SECONDS):
        raise CnmError(f"it is {engine.registry.get(before.id).state}")


def _remove_volume(engine: Engine, name: str) -> None:
    engine.parts.volumes.remove(name)


def _prune_volumes(engine: Engine) -> None:
    engine.parts.volumes.prune(lambda _: True)


_VERBS: dict[str, Callable[..., None]] = {
    "end": _end,
    "remove volume": _remove_volume,
    "prune volumes": _prune_volumes,
}
"""Of ours, beside the engine's."""


def _forked(action: Callable[[], object]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        devnull = os.open(os.devnull, os.O_RDWR)
        os.dup2(devnull, 0)
        os.dup2(2, 1)
        action()
        code = 0
    finally:
        os._exit(code)


def _play(settings: Settings, asked: dict[str, Any], log: Path) -> dict[str, Any]:
    log.write_text("")
    log.with_suffix(".error").write_text("")
    _, status = os.waitpid(_forked(lambda: _die_within(settings, asked, log)), 0)
    return {
        "died": os.WIFSIGNALED(status),
        "error": log.with_suffix(".error").read_text() or ("" if status in (0, 9) else f"status {status}"),
        "points": log.read_text().splitlines(),
    }


def _reap() -> None:
    """What launchers that died leave is ours."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue


def main() -> None:
    processes.adopt_orphans()
    root, run, config, log = sys.argv[1:]
    settings = load(config, {"root": root, "run": run}, must_exist=True)
    start_logging(settings)
    for line in sys.stdin:
        _reap()
        asked = json.loads(line)
        if "verb" in asked:
            answer = _play(settings, asked, Path(log))
        else:
            answer = {"pid": _forked(lambda: daemon._serve(settings))}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

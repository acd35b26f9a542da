"""A program that says what it finds in itself, to compare one that was forked with one that was started."""

from __future__ import annotations

import atexit
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATUS = ("Umask", "Groups", "Uid", "Threads", "SigBlk", "SigIgn", "SigCgt", "CapEff", "NoNewPrivs")
_LIMITS = [name for name in dir(resource) if name.startswith("RLIMIT_")]


def described() -> dict[str, Any]:
    """Everything that a start gives to a program."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "argv": sys.argv,
        "path": sys.path[0],
        "command": Path("/proc/self/cmdline").read_bytes().rstrip(b"\0").decode(errors="surrogateescape"),
        "name": Path("/proc/self/comm").read_text(),
        "program": os.readlink("/proc/self/exe"),
        "env": dict(os.environ),
        "environment of children": sorted(
            subprocess.check_output(["env"]).decode(errors="surrogateescape").splitlines()
        ),
        "time zone": time.tzname,
        "directory": os.getcwd(),
        "descriptors": {number: os.readlink(f"/proc/self/fd/{number}") for number in _descriptors()},
        "status": {key: status[key] for key in _STATUS},
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in _LIMITS},
        "handlers": {
            number.name: str(signal.getsignal(number))
            for number in signal.valid_signals()
            if hasattr(number, "name")
        },
        "namespaces": {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in os.listdir("/proc/self/ns")},
        "leads": [os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()],
        "threads": [thread.name for thread in threading.enumerate()],
        "is main": threading.current_thread() is threading.main_thread(),
        "given": sys.stdin.read(),
    }


def _descriptors() -> list[int]:
    """Without that of the listing."""
    found = map(int, os.listdir("/proc/self/fd"))
    return sorted(number for number in found if os.path.exists(f"/proc/self/fd/{number}"))


def _exit_with(text: str) -> None:
    sys.exit(json.loads(text))


def _fail() -> None:
    raise LookupError("as it was told")


def _interrupt() -> None:
    raise KeyboardInterrupt


def _end_slowly() -> None:
    atexit.register(print, "at the exit")
    threading.Thread(target=_say_later).start()


def _say_later() -> None:
    threading.main_thread().join()
    print("from a thread")


def _wait() -> None:
    print("ready", flush=True)
    while True:
        signal.pause()


_PROBES: dict[str, Callable[..., object]] = {
    "describe": lambda *_words: print(json.dumps(described())),
    "exit": _exit_with,
    "fail": _fail,
    "interrupt": _interrupt,
    "end slowly": _end_slowly,
    "random": lambda: print(random.random()),
    "wait": _wait,
}


def main() -> int:
    _PROBES[sys.argv[1]](*sys.argv[2:])
    return 0


if __name__ == "__main__":
    sys.exit(main())

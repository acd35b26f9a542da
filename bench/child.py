"""A process that does what it is asked: commands and answers are JSON, a line each."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


class Child:
    """`python -m MODULE ARGUMENTS…`, which calls `serve`; it is killed at the end of the block."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", module, *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid

    def ask(self, verb: str, *arguments: Any) -> Any:
        """What the method of that name returns. Raises RuntimeError where the process has ended."""
        self.begin(verb, *arguments)
        return self.finish()

    def begin(self, verb: str, *arguments: Any) -> None:
        """Ask, and do not wait: `finish` does."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([verb, *arguments]) + "\n")
        self._process.stdin.flush()

    def finish(self) -> Any:
        assert self._process.stdout is not None
        if not (answer := self._process.stdout.readline()):
            raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")
        return json.loads(answer)

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()


def serve(work: object) -> None:
    """Call methods of `work` as they are asked for, until nobody asks any more."""
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        print(json.dumps(getattr(work, verb)(*arguments)), flush=True)

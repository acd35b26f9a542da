"""podman while it builds: what it says on both streams, as it comes, and how it ends."""

from __future__ import annotations

import codecs
import os
import selectors
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from enum import Enum, auto

from cnm.kernel.processes import kill, started
from cnm.launcher.exits import Exits

_BEAT_SECONDS = 1.0
"""Between two looks for a client that has gone."""
_PIECE = 1 << 16


class Stream(Enum):
    OUTPUT = auto()
    ERROR = auto()


class Process:
    """A child whose end `exits` is to tell: it reaps whatever nobody waits for, as while a slow client reads."""

    def __init__(self, child: subprocess.Popen[bytes], exits: Exits) -> None:
        self._child = child
        self._begun = started(child.pid)
        self._ended: Future[int | None] = Future()
        exits.on_end(child.pid, self._ended.set_result)

    def heard(self) -> Iterator[tuple[Stream, str]]:
        """What it says, to its end; "" where it says nothing for a while.

        Where it was killed, what it has started may hold the streams open for as long as it likes.
        """
        output, error = self._child.stdout, self._child.stderr
        assert output is not None
        assert error is not None
        with selectors.DefaultSelector() as selector, ExitStack() as stack:
            for file, stream in ((output, Stream.OUTPUT), (error, Stream.ERROR)):
                stack.enter_context(file)
                selector.register(file, selectors.EVENT_READ, (stream, _decoder()))
            while selector.get_map():
                ready = selector.select(_BEAT_SECONDS)
                if not ready and self._ended.done():
                    return
                if not ready:
                    yield Stream.OUTPUT, ""
                for key, _ in ready:
                    stream, decoder = key.data
                    if piece := os.read(key.fd, _PIECE):
                        yield stream, decoder.decode(piece)
                    else:
                        selector.unregister(key.fileobj)

    def wait(self) -> int:
        """The exit code, 128 + N for signal N."""
        code = self._ended.result()
        self._child.returncode = 0 if code is None else code  # what Popen need not find out itself
        return self._child.returncode

    def kill(self) -> None:
        """Returns when it has ended; where it has already, nothing is done."""
        if not self._ended.done():
            kill(self._child.pid, signal.SIGKILL, self._begun)
        self.wait()


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")("replace")

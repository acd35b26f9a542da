"""A client that is attached, on one end of a socket pair whose other end is relayed in a thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from cnm.http.upgrade import finish
from tests.support.small_containers import PATIENCE

T = TypeVar("T")


class Attached(Generic[T]):
    """`client` is the client's end; the other is closed once `serve` has returned, as the server does it."""

    def __init__(self, serve: Callable[[socket.socket], T]) -> None:
        self.client, self._server = socket.socketpair()
        self.client.settimeout(PATIENCE)
        self._serve = serve
        self._results: list[T] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def result(self) -> T:
        """What `serve` returned."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the relay does not end"
        return self._results[0]

    def close(self) -> None:
        self.client.close()
        self.result()

    def _run(self) -> None:
        with self._server:
            self._results.append(self._serve(self._server))
            finish(self._server)


@contextmanager
def attached(serve: Callable[[socket.socket], T]) -> Iterator[Attached[T]]:
    """Ends with the relay's end, and the client's connection."""
    made = Attached(serve)
    try:
        yield made
    finally:
        made.close()

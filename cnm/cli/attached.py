"""This program in the place of a container's process: its terminal, its streams, its signals, its exit code."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import closing, contextmanager, nullcontext

from cnm.cli.container_api import exit_code, path
from cnm.cli.streams import STDIN_FD, STDOUT_FD, Detached, relay
from cnm.cli.terminal import is_terminal, raw, size
from cnm.errors import CnmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any

    from cnm.cli.client import Client
    from cnm.cli.streams import Streams

_OWN_SIGNALS = {
    *(signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGURG, signal.SIGXFSZ),
    *(signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP),
    *(signal.SIGTTIN, signal.SIGTTOU),
}
"""Never passed on: they cannot be caught, or are about this program itself and the terminal it runs in."""

_ATTEMPTS = 10
_STEP = 0.01
"""A process that has only just been started may have no terminal yet: it is asked again after 10, 20, … ms."""


def check_terminal(stdin: bool, tty: bool) -> None:
    """Raises CnmError where a process shall read a terminal and this program has none."""
    if stdin and tty and not is_terminal(STDIN_FD):
        raise CnmError("the input device is not a TTY: leave out -t, or run it from a terminal")


def start_attached(
    client: Client, container: str, streams: Streams, query: dict[str, str], removes: bool
) -> int:
    """Start a container and be its process: the exit code, 0 where the user leaves it by the keys that detach.

    `query` is as that of `attach`; the container is removed when it has exited if `removes`. The order is Docker's:
    attach, so that nothing of the output is missed, and wait, so that the end is not; then start.
    Raises CnmError where it cannot be started; it is removed then, too.
    """
    connection = client.upgrade(path(container, "attach"), query=query)
    condition = "removed" if removes else "next-exit"
    exited = client.begin("POST", path(container, "wait"), {"condition": condition})
    try:
        with (
            conversation(connection, streams),
            Window(client, path(container, "resize"), streams.tty) as window,
        ):
            _start(client, container, exited if removes else None)
            relay(connection, streams, window.due)
    except Detached:
        return 0
    return exit_code(exited())


def _start(client: Client, container: str, removed: Callable[[], Any] | None) -> None:
    try:
        client.post(path(container, "start"))
    except CnmError:
        if removed:
            removed()
        raise


def attach_query(
    *, stdin: bool, stdout: bool = True, stderr: bool = True, detach_keys: str
) -> dict[str, str]:
    """What POST /containers/NAME/attach is asked for."""
    wanted = {"stream": True, "stdin": stdin, "stdout": stdout, "stderr": stderr}
    query = {name: "1" for name, value in wanted.items() if value}
    return query | ({"detachKeys": detach_keys} if detach_keys else {})


@contextmanager
def conversation(connection: tuple[_socket.socket, bytes], streams: Streams) -> Iterator[None]:
    """While the block runs the caller's terminal is the process's, where it is to have one; then all is closed."""
    terminal = raw(STDIN_FD) if streams.stdin and streams.tty and is_terminal(STDIN_FD) else nullcontext()
    with closing(connection[0]), terminal:
        yield


class Window:
    """Gives the terminal of a process the size of the caller's, at first and whenever that changes.

    Where the process or the caller has none it does nothing.
    """

    def __init__(self, client: Client, path: str, tty: bool) -> None:
        """`path` is where the API takes a size."""
        self._client = client
        self._path = path
        self._watches = tty and is_terminal(STDOUT_FD)
        self._told = not self._watches
        self._attempts = 0
        self._next = 0.0

    def __enter__(self) -> Window:
        if self._watches:
            signal.signal(signal.SIGWINCH, self._changed)
        return self

    def __exit__(self, *_: object) -> None:
        if self._watches:
            signal.signal(signal.SIGWINCH, signal.SIG_DFL)

    def due(self) -> int | None:
        """Tell the size if that is due; after how many milliseconds it will be, None: not again."""
        if self._told:
            return None
        left = self._next - time.monotonic()
        if left <= 0 and self.tell():
            return None
        if left <= 0 and self._attempts == _ATTEMPTS:
            self._told = True
            print("failed to resize tty, using default size\r", file=sys.stderr)
            return None
        if left <= 0:
            self._attempts += 1
            left = self._attempts * _STEP
            self._next = time.monotonic() + left
        return int(left * 1000) + 1

    def tell(self, more: int = 0) -> bool:
        """Whether the daemon has taken the size, `more` rows and columns added."""
        rows, columns = size(STDOUT_FD)
        if self._watches and (rows or columns):
            try:
                self._client.post(self._path, query={"h": str(rows + more), "w": str(columns + more)})
            except CnmError:
                return False
        self._told = self._told or not more
        return True

    def _changed(self, _: int, __: FrameType | None) -> None:
        self.tell()


@contextmanager
def signals_for(client: Client, container: str, tty: bool) -> Iterator[None]:
    """What signals this program gets go to the container's process while the block runs.

    One that the caller has this program ignore stays ignored. A change of the window's size is no signal for a
    process with a terminal: it has its own from there.
    """

    def pass_on(number: int, _: FrameType | None) -> None:
        try:
            client.post(path(container, "kill"), query={"signal": str(number)})
        except CnmError:
            return  # it does not run yet, or no more

    passed = signal.valid_signals() - _OWN_SIGNALS - ({signal.SIGWINCH} if tty else set())
    before = {}
    for number in passed:
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, pass_on)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

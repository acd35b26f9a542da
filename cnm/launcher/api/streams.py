"""What lasts: attach, logs, wait, stats. None of them occupies one of the server's workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any

from flask import Response

from cnm.api import times
from cnm.api.routes import Routes
from cnm.errors import InvalidParameter
from cnm.http.server import LONG_STREAM, UPGRADE
from cnm.http.upgrade import Connection
from cnm.launcher import logs
from cnm.launcher.api.calls import Call
from cnm.launcher.attach import Ended, Wish, detach_keys
from cnm.launcher.container import Container, Status
from cnm.launcher.log_details import details
from cnm.launcher.streams import ContainerStreams
from cnm.wire import codec

routes = Routes()

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
_MULTIPLEXED_SINCE = (1, 42)
_BEAT_SECONDS = 1.0
_STREAMS = {
    "stdin": "take standard input",
    "stdout": "give standard output",
    "stderr": "give standard error",
    "stream": "go on while it runs",
    "logs": "what was said before, first",
    "detachKeys": "as ctrl-p,ctrl-q",
}


def content_type(call: Call[Any], tty: bool) -> str:
    return RAW if tty or call.version < _MULTIPLEXED_SINCE else MULTIPLEXED


def endless(call: Call[Any], chunks: Iterator[bytes], kind: str) -> Response:
    """An answer in pieces, from a thread of its own; a piece of nothing has the server look for its client."""
    call.environ[LONG_STREAM] = True
    return Response(chunks, content_type=kind)


# attach


@routes.post("/containers/{container}/attach", query=_STREAMS)
def attach(call: Call[None], container: str) -> Response:
    """Take part in a container's streams; before its start too."""
    found = call.engine.registry.find(container)
    call.engine.check_attachable(found)
    config = found.config
    wish = Wish(
        tty=bool(config.tty),
        stdin=call.flag("stdin") and bool(config.open_stdin),
        stdout=call.flag("stdout"),
        stderr=call.flag("stderr"),
        closes_stdin=bool(config.stdin_once),
        detach_keys=detach_keys(call.query.get("detachKeys", "")),
    )
    taker = _Attaching(call, found, wish)
    if call.flag("stream"):
        call.engine.parts.tell("attach", found)
    call.environ[UPGRADE] = taker.take
    return Response(content_type=content_type(call, wish.tty))


class _Attaching:
    """One client; connected to the container before its answer goes out, so that nothing is lost."""

    def __init__(self, call: Call[None], container: Container, wish: Wish) -> None:
        self._engine, self._container, self._wish = call.engine, container, wish
        self._logs = call.flag("logs")
        self._stream = call.flag("stream") and (wish.stdin or wish.stdout or wish.stderr)
        self._arrival = call.engine.streams_of(container) if self._stream else None

    def take(self, connection: Connection) -> None:
        if self._logs:
            self._replay(connection)
        if self._arrival is None:
            return
        streams = self._await(connection, self._arrival)
        if streams is None:
            return
        engine, ident = self._engine, self._container.id
        ended = engine.attachments.serve(ident, connection.socket, connection.early, streams, self._wish)
        if ended is Ended.DETACHED and engine.registry.is_there(ident):
            engine.parts.tell("detach", self._container)

    def _replay(self, connection: Connection) -> None:
        path = self._engine.parts.places.log(self._container.id)
        entries = logs.read(path, stdout=self._wish.stdout, stderr=self._wish.stderr)
        for piece in logs.render(entries, tty=self._wish.tty):
            connection.socket.sendall(piece)

    def _await(
        self, connection: Connection, arrival: Future[ContainerStreams | None]
    ) -> ContainerStreams | None:
        """Who gave input and left has still given it, and has ended it: that is passed on, as in Docker."""
        while True:
            try:
                return arrival.result(_BEAT_SECONDS)
            except NotYet:
                if not self._wish.stdin and is_gone(connection):
                    self._engine.arrivals.forget(self._container.id, arrival)
                    return None


def is_gone(connection: Connection) -> bool:
    """Whether the client has closed the connection."""
    import select

    poll = select.poll()
    poll.register(connection.socket, 0)
    return bool(poll.poll(0))


# logs


@routes.get(
    "/containers/{container}/logs",
    query={
        "stdout": "standard output",
        "stderr": "standard error",
        "follow": "go on while it runs",
        "since": "from this time on",
        "until": "up to this time",
        "timestamps": "with each line's time",
        "tail": "the last so many, or all",
        "details": "with the labels and variables that its log options name",
    },
)
def show_logs(call: Call[None], container: str) -> Response:
    """What a container has said."""
    found = call.engine.registry.find(container)
    stdout, stderr = call.flag("stdout"), call.flag("stderr")
    if not stdout and not stderr:
        raise InvalidParameter("Bad parameters: you must choose at least one stream")
    call.engine.check_readable(found)
    now = time.time_ns()
    follow = call.flag("follow")
    entries = logs.read(
        call.engine.parts.places.log(found.id),
        since=_moment(call, "since", now),
        until=_moment(call, "until", now),
        tail=_tail(call),
        follow=follow,
        stdout=stdout,
        stderr=stderr,
        ended=_has_ended(call, found),
    )
    tty = bool(found.config.tty)
    said = f"{details(found)} ".encode() if call.flag("details") else b""
    pieces = logs.render(entries, tty=tty, timestamps=call.flag("timestamps"), details=said)
    return endless(call, pieces, content_type(call, tty))


def _moment(call: Call[None], name: str, now: int) -> int:
    text = call.query.get(name, "")
    return times.parse(text, now) if text else 0


def _tail(call: Call[None]) -> int | None:
    text = call.query.get("tail", "all")
    return int(text) if text.isdecimal() else None


def _has_ended(call: Call[None], container: Container) -> Callable[[], bool]:
    registry, ident = call.engine.registry, container.id

    def ended() -> bool:
        return not registry.is_there(ident) or not call.engine.may_speak(ident)

    return ended


# wait


@routes.post("/containers/{container}/wait", query={"condition": "not-running, next-exit or removed"})
def wait(call: Call[None], container: str) -> Response:
    """Wait for a container; the answer's head comes at once."""
    condition = call.query.get("condition", "")
    registry = call.engine.registry
    found = registry.find(container)
    codes = call.engine.wait(found.id, condition)

    def pieces() -> Iterator[bytes]:
        for code in codes:
            over = code is not None
            yield codec.encode(_waited(registry.last(found), condition, code)) + b"\n" if over else b""

    return endless(call, pieces(), "application/json")


def _waited(container: Container, condition: str, code: int | None) -> dict[str, Any]:
    """With what kept a container from going, where that is what was waited for."""
    answer: dict[str, Any] = {"StatusCode": code}
    if condition == "removed" and container.state.status is Status.DEAD:
        answer["Error"] = {"Message": container.state.error}
    return answer


# stats


@routes.get(
    "/containers/{container}/stats",
    query={"stream": "again each second", "one-shot": "once, without a look before"},
)
def stats(call: Call[None], container: str) -> Response:
    """What a container uses."""
    found = call.engine.registry.find(container)
    readings = call.engine.stats.readings(
        found, again=call.flag("stream", missing=True), one_shot=call.flag("one-shot")
    )
    pieces = (b"" if each is None else codec.encode(each) + b"\n" for each in readings)
    return endless(call, pieces, "application/json")

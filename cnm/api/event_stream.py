"""GET /events: what happened since a time, then what happens, a JSON line each, until a time or for ever."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import msgspec
from flask import Response, request

from cnm.api import filters, times
from cnm.api.routes import Call
from cnm.events import Event
from cnm.http.server import LONG_STREAM
from cnm.wire import codec, views

HEARTBEAT = 1.0
"""Seconds after which a stream without news yields an empty chunk: its server then looks for the client."""


def respond(call: Call[None], now: int) -> Response:
    """The answer; it is subscribed before its headers are sent, so a client misses nothing from then on."""
    since, until = (_moment(call.query.get(name, ""), now) for name in ("since", "until"))
    selects = filters.event_selector(filters.decode(call.query.get("filters", ""), filters.EVENT_FILTERS))
    if request.method == "HEAD":
        return Response(content_type="application/json")
    context = ExitStack()
    news = context.enter_context(call.backend.subscribe())
    past = [] if since is None else call.backend.past_events(since)
    response = Response(_lines(past, news, until, selects), content_type="application/json")
    response.call_on_close(context.close)
    request.environ[LONG_STREAM] = True
    return response


def _moment(text: str, now: int) -> int | None:
    return times.parse(text, now) if text else None


def _lines(
    past: list[Event], news: queue.Queue[Event], until: int | None, selects: Callable[[Event], bool]
) -> Iterator[bytes]:
    for event in past:
        if (until is None or event.time_nano <= until) and selects(event):
            yield _line(event)
    told = set(map(id, past))  # what happened between the subscription and the look back is in both
    for happened in _news(news, until):
        if happened is None:
            yield b""
        elif id(happened) not in told and selects(happened):
            yield _line(happened)


def _line(event: Event) -> bytes:
    """Of containers and images with what API 1.52 has no more: docker-compose 1 reads nothing else, at any version."""
    shown = views.event(event)
    if event.type not in ("container", "image"):
        return codec.encode(shown) + b"\n"
    old = {"status": event.action, "id": event.id}
    if event.type == "container":
        old["from"] = event.attributes.get("image", "")
    return codec.encode(old | msgspec.to_builtins(shown)) + b"\n"


def _news(news: queue.Queue[Event], until: int | None) -> Iterator[Event | None]:
    """Events up to `until` (None: for ever), and None whenever nothing happened for a while."""
    while True:
        left = HEARTBEAT if until is None else (until - time.time_ns()) / 10**9
        try:
            event = news.get(timeout=min(max(left, 0.001), HEARTBEAT))
        except queue.Empty:
            if left <= 0:
                return
            yield None
        else:
            if until is not None and event.time_nano > until:
                return
            yield event

"""Calls other people's Docker plugins: located, activated once, asked with a time limit, their errors in one line.

A plugin that just failed to answer is not waited for again at once: for a while it is asked without retries and with
a short limit, so that a verb's farewells to a plugin that is away do not add up to minutes. Nor may a plugin that hangs
hold all of the daemon's threads: while some of its calls have waited for long, further ones are refused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import msgspec

from cnm.errors import CnmError, InvalidParameter, NotFound, Unavailable
from cnm.wire.codec import encode
from cnm.wire.lenient import decode_leniently
from cnm.wire.plugin import Activation, Failure
from cnm.wire.plugin_discovery import Places, PluginAddress, locate
from cnm.wire.plugin_retry import Clock, retried
from cnm.wire.plugin_transport import Answer, BrokenAnswer, HttpTransport, TooLate, Transport, TransportError

T = TypeVar("T", bound=msgspec.Struct)

DEFAULT_SECONDS = 60.0
_IMPATIENT_SECONDS = 30.0
_SHORT_SECONDS = 5.0
_MOST_WAITING, _STUCK_SECONDS = 8, 5.0
_LONGEST_MESSAGE = 2000


class PluginRefused(CnmError):
    """The plugin answered with an error, or with what is no answer."""


class NotImplementedByPlugin(PluginRefused):
    """The plugin does not know the call (404)."""


class PluginAway(Unavailable):
    """The plugin cannot be reached, or does not answer in time."""


class Limit(NamedTuple):
    """How long one call is waited for."""

    times: float = 1.0
    """As long as for any call."""
    hurried: bool = False
    """Without retries and not for long: for what is only looked at, and missed by nobody."""


PATIENT, HURRIED = Limit(), Limit(hurried=True)


class Plugin:
    """One plugin at its address. Thread-safe."""

    def __init__(
        self, address: PluginAddress, transport: Transport, clock: Clock, seconds: float = DEFAULT_SECONDS
    ) -> None:
        self.address = address
        self.name = address.name
        self._transport = transport
        self._clock = clock
        self._seconds = seconds
        self._impatient_until = float("-inf")
        self._lock = threading.Lock()
        self._waiting: list[float] = []
        """When the calls began that have no answer yet."""

    def close(self) -> None:
        self._transport.close()

    def call(self, method: str, request: msgspec.Struct | None, answer: type[T], limit: Limit = PATIENT) -> T:
        """The plugin's answer to `method` ("NetworkDriver.Join"). A request None is an empty body.

        Raises PluginAway, NotImplementedByPlugin, PluginRefused; the message names the plugin and the call.
        """
        body = b"" if request is None else encode(request) + b"\n"
        about = f"plugin {self.name}: {method}"
        with self._counted(about):
            status, text = self._answered(about, f"/{method}", body, limit)
        if status != 200:
            kind = NotImplementedByPlugin if status == 404 else PluginRefused
            raise kind(f"{about}: {_message(text) or f'HTTP status {status}'}")
        try:
            failure = _failure(text)
            if failure:
                raise PluginRefused(f"{about}: {failure}")
            return decode_leniently(text, answer)
        except InvalidParameter as error:
            raise PluginRefused(f"{about}: the answer cannot be read: {error}") from None

    @contextmanager
    def _counted(self, about: str) -> Iterator[None]:
        now = self._clock.now()
        with self._lock:
            if len(self._waiting) >= _MOST_WAITING and now - min(self._waiting) > _STUCK_SECONDS:
                raise PluginAway(
                    f"{about}: {len(self._waiting)} calls wait for its answer already: see the plugin's log"
                )
            self._waiting.append(now)
        try:
            yield
        finally:
            with self._lock:
                self._waiting.remove(now)

    def _answered(self, about: str, path: str, body: bytes, limit: Limit) -> Answer:
        hurried = limit.hurried or self._clock.now() < self._impatient_until
        seconds = self._seconds * limit.times
        seconds = min(seconds, _SHORT_SECONDS) if hurried else seconds

        def ask() -> Answer:
            try:
                return self._transport.post(path, body, seconds)
            except TransportError as error:
                raise TransportError(f"{about}: {error}") from None

        try:
            answer = ask() if hurried else retried(ask, TransportError, self._clock)
        except TransportError as error:
            self._impatient_until = self._clock.now() + _IMPATIENT_SECONDS
            raise PluginAway(f"{error}: is the plugin running?") from None
        except TooLate:
            self._impatient_until = self._clock.now() + _IMPATIENT_SECONDS
            raise PluginAway(f"{about}: no answer within {seconds:g} s: see the plugin's log") from None
        except BrokenAnswer as error:
            raise PluginRefused(f"{about}: {error}") from None
        self._impatient_until = float("-inf")
        return answer


def _failure(body: bytes) -> str:
    """The error of an answer with status 200; "" where there is none. Raises InvalidParameter."""
    found = decode_leniently(body, Failure)
    return _one_line(found.err or found.error or "")


def _message(body: bytes) -> str:
    """The error of an answer with another status: a JSON object's, else the text itself."""
    try:
        return _failure(body) or _one_line(body.decode(errors="replace"))
    except InvalidParameter:
        return _one_line(body.decode(errors="replace"))


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_LONGEST_MESSAGE]


_Activated = tuple[Plugin, frozenset[str]]
"""A plugin and the kinds of driver that it is."""


class Plugins:
    """All plugins that this daemon has to do with, each located and activated at its first use."""

    def __init__(
        self,
        places: Places,
        clock: Clock,
        seconds: float = DEFAULT_SECONDS,
        transport: Callable[[PluginAddress], Transport] = HttpTransport,
    ) -> None:
        self.places = places
        self._clock = clock
        self._seconds = seconds
        self._transport = transport
        self._lock = threading.Lock()
        self._active: dict[str, Future[_Activated]] = {}
        self._expected: set[str] = set()

    def expect(self, name: str) -> None:
        """Something that exists needs this plugin: it is waited for where it cannot be found at once."""
        self._expected.add(name)

    def get(self, name: str, kind: str, limit: Limit = PATIENT) -> Plugin:
        """The plugin, activated; concurrent callers wait for the first, and share its outcome.

        Raises NotFound where there is none, InvalidParameter where it is not of this kind ("NetworkDriver"), and what
        `Plugin.call` raises. A failure is not remembered.
        """
        with self._lock:
            known = self._active.get(name)
            future = known or self._active.setdefault(name, Future())
        if known is None:
            self._activate(name, future, limit)
        plugin, kinds = self._outcome(name, future, limit)
        if kind not in kinds:
            raise InvalidParameter(
                f"plugin {name} does not implement the requested driver: requested implementation={kind}, "
                f"it has {', '.join(sorted(kinds)) or 'none'}"
            )
        return plugin

    def _outcome(self, name: str, future: Future[_Activated], limit: Limit) -> _Activated:
        """Who is in a hurry does not wait for another's patience."""
        seconds = min(self._seconds, _SHORT_SECONDS) if limit.hurried else None
        try:
            return future.result(seconds)
        except TimeoutError:
            raise PluginAway(
                f"plugin {name}: Plugin.Activate: no answer within {seconds:g} s: see the plugin's log"
            ) from None

    def call(
        self,
        name: str,
        method: str,
        request: msgspec.Struct | None,
        answer: type[T],
        limit: Limit = PATIENT,
    ) -> T:
        """A call of the plugin `name`, found anew if it cannot be reached where it was."""
        plugin = self.get(name, method.partition(".")[0], limit)
        try:
            return plugin.call(method, request, answer, limit)
        except PluginAway:
            self._look_again(name, plugin)
            raise

    def close(self) -> None:
        with self._lock:
            futures = [f for f in self._active.values() if f.done() and f.exception() is None]
        for future in futures:
            future.result()[0].close()

    def _activate(self, name: str, future: Future[_Activated], limit: Limit) -> None:
        try:
            plugin = self._located(name, limit)
            answer = plugin.call("Plugin.Activate", None, Activation, limit._replace(times=1.0))
        except CnmError as error:
            self._forget(name, future)
            future.set_exception(error)
            return
        except BaseException:
            self._forget(name, future)
            future.set_exception(PluginAway(f"plugin {name}: activation was interrupted"))
            raise
        self._expected.add(name)
        future.set_result((plugin, frozenset(answer.implements or ())))

    def _located(self, name: str, limit: Limit) -> Plugin:
        def look() -> PluginAddress:
            return locate(name, self.places)

        waits = name in self._expected and not limit.hurried
        address = retried(look, NotFound, self._clock) if waits else look()
        return Plugin(address, self._transport(address), self._clock, self._seconds)

    def _forget(self, name: str, future: Future[_Activated]) -> None:
        with self._lock:
            if self._active.get(name) is future:
                del self._active[name]

    def _look_again(self, name: str, plugin: Plugin) -> None:
        """It may have come back elsewhere. The same address keeps the plugin, which remembers that it was away."""
        with self._lock:
            future = self._active.get(name)
        if future is None or not future.done() or future.exception() or future.result()[0] is not plugin:
            return
        try:
            moved = locate(name, self.places) != plugin.address
        except CnmError:
            return
        if moved:
            self._forget(name, future)
            plugin.close()

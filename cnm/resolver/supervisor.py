"""The resolver's first process: hears cnmd, keeps the state, and has workers that serve it.

A worker is a fork, so that one which takes the place of another knows everything from its first moment. It says
nothing to cnmd, and it ends with this process.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Mapping
from select import EPOLLIN
from typing import Any

from cnm.resolver import worker
from cnm.resolver.messages import LONGEST, VERSION, Message, Verb
from cnm.resolver.state import State
from cnm.resolver.stats import total
from cnm.sidecar import packets
from cnm.sidecar.acceptor import Acceptor
from cnm.sidecar.loop import Loop
from cnm.sidecar.start import Begun

log = logging.getLogger("cnm.resolver")

_ANSWER_SECONDS = 1.0
_PAUSE_SECONDS = 0.2
"""Before a worker is started anew that died at once."""
_QUICK_DEATH_SECONDS = 2.0
_CHANGES = frozenset(
    {
        Verb.BEGIN,
        Verb.COMMIT,
        Verb.ZONE,
        Verb.UNZONE,
        Verb.MEMBER,
        Verb.UNMEMBER,
        Verb.RECORDS,
        Verb.SCOPE,
        Verb.UNSCOPE,
        Verb.SETTINGS,
    }
)


class Supervisor:
    """When nothing is served and nobody is connected any more, it ends."""

    def __init__(self, begun: Begun, workers: int) -> None:
        self.state = State()
        self.state.opened, self.state.closing = self._keep, self._let_go
        self._store = begun.store
        self._kept = _by_scope(begun.kept)
        """What the service manager kept, until cnmd has said what is to be served."""
        self._listener = begun.listener
        self._namespace = begun.namespace
        self._loop = Loop()
        self._acceptor = Acceptor(self._loop, begun.listener, self._welcome)
        self._sessions: set[_Session] = set()
        self._workers: dict[int, _Worker] = {}
        self._count = workers
        self._retired = False
        for number in range(workers):
            self._start(number)

    def run(self) -> None:
        self._loop.run()

    # cnmd

    def hello(self) -> Message:
        body = {
            "version": VERSION,
            "pid": os.getpid(),
            "namespace": self._namespace,
            "workers": self._count,
        }
        return Message(Verb.HELLO, "", body)

    def change(self, message: Message, carried: Mapping[str, socket.socket]) -> str:
        """Here and in all workers; returns what is wrong with the message, "" for nothing."""
        try:
            self.state.apply(message, carried)
        except ValueError as error:
            return str(error)
        if message.verb is Verb.COMMIT:
            self._drop_kept()
        told = [(each, each.tell(message, carried)) for each in list(self._workers.values())]
        for each, heard in told:
            answer = each.answer() if heard else None
            if answer is None or answer.body["error"]:
                self._replace(each)  # and the next one knows what this one was not told
        self.state.close_spare(message.id, carried)
        return ""

    def held(self) -> dict[str, dict[str, socket.socket]]:
        """All sockets by their scopes and their names."""
        return {**self._kept, **self.state.sockets}

    def _keep(self, scope: str) -> None:
        """Have the service manager keep what is served."""
        for name, each in self.state.sockets[scope].items():
            self._store.keep(f"{scope}.{name}", each)

    def _let_go(self, scope: str) -> None:
        for name in self.state.sockets[scope]:
            self._store.drop(f"{scope}.{name}")

    def _drop_kept(self) -> None:
        """The next cnmd has told what it wants: what it took of these, it has told."""
        for scope, sockets in self._kept.items():
            for name, each in sockets.items():
                if scope not in self.state.sockets:
                    self._store.drop(f"{scope}.{name}")
                each.close()
        self._kept = {}

    def stats(self) -> dict[str, Any]:
        answers = []
        for each in list(self._workers.values()):
            answer = each.answer() if each.tell(Message(Verb.STATS), {}) else None
            if answer is None:
                self._replace(each)
            else:
                answers.append(answer.body["stats"])
        return total(answers)

    def retire(self) -> None:
        """Serve nothing any more, and let nobody in: whoever comes now starts a resolver of his own."""
        self._retired = True
        for each in list(self._workers.values()):
            self._end(each)
        for sockets in self.state.sockets.values():
            for each_socket in sockets.values():
                each_socket.close()
        self.state.sockets.clear()
        self._acceptor.close()
        self._listener.close()

    def left(self, session: _Session) -> None:
        self._sessions.discard(session)
        if self._retired or (not self.state.sockets and not self._sessions):
            for each in list(self._workers.values()):
                self._end(each)
            self._loop.stop()

    def _welcome(self, channel: socket.socket) -> None:
        self._sessions.add(_Session(self, self._loop, channel))

    # Workers

    def _start(self, number: int) -> None:
        if self._retired or number in self._workers:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            self._become_worker(number, theirs, ours)
        theirs.close()
        ours.settimeout(_ANSWER_SECONDS)
        self._workers[number] = _Worker(number, pid, ours, self._loop, self._died)

    def _become_worker(self, number: int, channel: socket.socket, parents: socket.socket) -> None:
        """Never returns."""
        try:
            for each in self._workers.values():
                each.channel.close()
            for session in self._sessions:
                session.channel.close()
            parents.close()
            self._listener.close()
            self._loop.close()
            worker.run(number, channel, self.state)
        except BaseException:
            log.exception("worker %d ends", number)
        finally:
            os._exit(1)

    def _died(self, dead: _Worker) -> None:
        log.error("worker %d of the resolver has died: another is started", dead.number)
        self._replace(dead)

    def _replace(self, dead: _Worker) -> None:
        lived = self._loop.clock() - dead.since
        self._end(dead)
        if lived > _QUICK_DEATH_SECONDS:
            self._start(dead.number)
        else:
            self._loop.call_later(_PAUSE_SECONDS, lambda: self._start(dead.number))

    def _end(self, each: _Worker) -> None:
        if self._workers.get(each.number) is each:
            del self._workers[each.number]
            each.end()


def _by_scope(kept: Mapping[str, socket.socket]) -> dict[str, dict[str, socket.socket]]:
    scopes: dict[str, dict[str, socket.socket]] = {}
    for label, each in kept.items():
        scope, _, name = label.partition(".")
        scopes.setdefault(scope, {})[name] = each
    return scopes


class _Worker:
    """A worker as its parent sees it. Messages are told, then answered, one after the other."""

    def __init__(self, number: int, pid: int, channel: socket.socket, loop: Loop, died: Any) -> None:
        self.number = number
        self.channel = channel
        self.since = loop.clock()
        self._pid = pid
        self._loop = loop
        self._died = died
        loop.watch(channel.fileno(), EPOLLIN, self)

    def ready(self, descriptor: int, events: int) -> None:
        """It says nothing unasked: it has hung up."""
        self._died(self)

    def tell(self, message: Message, carried: Mapping[str, socket.socket]) -> bool:
        """Whether it could be told; of the sockets it gets its own, and those of all workers."""
        own = {name: each for name, each in carried.items() if worker.is_for(self.number, name)}
        if carried:
            message = message._replace(body={**message.body, "sockets": list(own)})
        try:
            packets.send(self.channel, message.encode(), [each.fileno() for each in own.values()])
        except OSError as error:
            log.error("worker %d cannot be told anything: %s", self.number, error)
            return False
        return True

    def answer(self) -> Message | None:
        """None where it is dead, or hangs."""
        try:
            packet = packets.receive(self.channel, LONGEST)
            return Message.decode(packet.content) if packet else None
        except (OSError, ValueError) as error:
            log.error("worker %d does not answer: %s", self.number, error)
            return None

    def end(self) -> None:
        self._loop.forget(self.channel.fileno())
        self.channel.close()
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


class _Session:
    """One connection of cnmd. It asks little at a time, and reads the answers: they are sent at once."""

    def __init__(self, supervisor: Supervisor, loop: Loop, channel: socket.socket) -> None:
        self.channel = channel
        self._supervisor = supervisor
        self._loop = loop
        channel.settimeout(_ANSWER_SECONDS)
        loop.watch(channel.fileno(), EPOLLIN, self)
        self._say(supervisor.hello())

    def ready(self, descriptor: int, events: int) -> None:
        try:
            packet = packets.receive(self.channel, LONGEST)
            if packet is None:
                self._close()
                return
            self._answer(packet)
        except (OSError, ValueError) as error:
            log.warning("control connection: %s", error)
            self._close()

    def _answer(self, packet: packets.Packet) -> None:
        sockets = [socket.socket(fileno=descriptor) for descriptor in packet.descriptors]
        try:
            message = Message.decode(packet.content)
            answer = self._answered(message, sockets)
        except ValueError:
            for each in sockets:
                each.close()
            raise
        self._say(Message(Verb.DONE, message.id, answer))

    def _answered(self, message: Message, sockets: list[socket.socket]) -> dict[str, Any]:
        if message.verb is Verb.LIST:
            self._list()
        elif message.verb is Verb.STATS:
            return {"error": "", "stats": self._supervisor.stats()}
        elif message.verb is Verb.END:
            self._supervisor.retire()
        elif message.verb in _CHANGES:
            names = message.body["sockets"] if sockets else []
            carried = dict(zip(names, sockets, strict=True))
            return {"error": self._supervisor.change(message, carried)}
        else:
            return {"error": f"{message.verb.value} is not a request"}
        return {"error": ""}

    def _list(self) -> None:
        for scope, sockets in self._supervisor.held().items():
            held = Message(Verb.HELD, scope, {"sockets": list(sockets)})
            packets.send(self.channel, held.encode(), [each.fileno() for each in sockets.values()])

    def _say(self, message: Message) -> None:
        packets.send(self.channel, message.encode())

    def _close(self) -> None:
        self._loop.forget(self.channel.fileno())
        self.channel.close()
        self._supervisor.left(self)

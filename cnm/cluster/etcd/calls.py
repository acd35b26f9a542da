"""Calls that are answered once: within a second, by whichever member can."""

from __future__ import annotations

import time
from enum import Enum
from typing import Any

import grpc

from cnm.cluster.etcd.channel import Connection
from cnm.cluster.etcd.contract import Ambiguous, EtcdError
from cnm.cluster.etcd.failover import Members
from cnm.cluster.etcd.faults import Fate, Fault, judge, refusal
from cnm.cluster.etcd.messages import Method

SECONDS = 1.1
"""For a call in all, whatever happens."""
_PAUSE = 0.1
"""Before a member is asked again: an election may be under way."""


class Effect(Enum):
    """What a call does, as to making it twice."""

    NONE = "none"
    """It reads."""
    SAME = "same"
    """It changes something, and a second time does no more."""
    ONCE = "once"
    """It must not be made twice."""


class Calls:
    """Makes calls with failover. Thread-safe."""

    def __init__(self, members: Members) -> None:
        self.members = members

    def ask(
        self,
        method: Method,
        request: Any,
        doing: str,
        effect: Effect = Effect.NONE,
        *,
        leader: bool = True,
        seconds: float = SECONDS,
    ) -> Any:
        """The answer.

        `doing` is for messages: "write /a/key". `leader`: only a member that has one is to answer. Raises EtcdError
        where nobody answers in time, Ambiguous where something may have been changed by it, and what
        `faults.refusal` makes of a refusal.
        """
        attempt = _Attempt(self.members, doing, effect, seconds)
        while True:
            connection = attempt.connection
            try:
                answer = connection.call(method, request, attempt.seconds(), leader=leader)
            except grpc.RpcError as error:
                fault = judge(error)
            except ValueError:  # it was closed before
                fault = Fault(Fate.NOT_DONE, grpc.StatusCode.CANCELLED, "was given up")
            else:
                self.members.answered(connection)
                return answer
            if pause := attempt.failed(fault):
                time.sleep(pause)


class _Attempt:
    """What was tried so far for one call."""

    def __init__(self, members: Members, doing: str, effect: Effect, seconds: float) -> None:
        self._members = members
        self._doing = doing
        self._effect = effect
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._unknown = False
        self._said: dict[str, str] = {}
        self.connection: Connection = members.current()

    def seconds(self) -> float:
        """How long the answer to this attempt may take: half of it all, where another member may be asked as well."""
        left = self._deadline - time.monotonic()
        others = self._effect is not Effect.ONCE and not self._said and len(self._members) > 1
        return min(left, self._seconds / 2) if others else left

    def failed(self, fault: Fault) -> float:
        """Choose whom to ask next; how many seconds to wait before.

        Raises when there is no time left, or nobody would help.
        """
        if fault.fate is Fate.REFUSED:
            raise refusal(fault, self._doing)
        if fault.fate is Fate.LATE:
            self._members.late(self.connection)
        self._unknown |= fault.fate in (Fate.UNKNOWN, Fate.LATE)
        pause = _PAUSE if self.connection.endpoint in self._said else 0.0
        self._said[self.connection.endpoint] = fault.text
        no_more = self._unknown and self._effect is Effect.ONCE
        if no_more or time.monotonic() + pause + 0.01 >= self._deadline:
            raise self._error()
        self._choose_next(fault)
        return pause

    def _choose_next(self, fault: Fault) -> None:
        if fault.fate is Fate.REVISED:
            return
        following = self._members.after(self.connection)
        if fault.fate is not Fate.LATE:
            self._members.move_on(self.connection)
        self.connection = following

    def _error(self) -> EtcdError:
        said = "; ".join(f"{endpoint}: {text}" for endpoint, text in self._said.items())
        if self._unknown and self._effect is not Effect.NONE:
            return Ambiguous(f"whether etcd did {self._doing} is not known: {said}")
        return EtcdError(f"etcd cannot {self._doing}: {said}")

"""Our nftables tables: rules through libnftables, elements through our own encoder, read back and compared."""

from __future__ import annotations

import errno
import json
import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import nftables

from cnm.errors import KernelError
from cnm.kernel.netlink import NLM_F_CREATE, NetlinkError, NetlinkSocket, Request
from cnm.kernel.nft_elements import (
    DELETE_ELEMENT,
    DESTROY_ELEMENT,
    GET_ELEMENT,
    NEW_ELEMENT,
    TABLE,
    Message,
    listing,
    pack,
    unpack,
)
from cnm.kernel.nft_transaction import NETLINK_NETFILTER, TransactionSocket
from cnm.kernel.state import ElementSet, FirewallElement

ADMIN_CHAIN = "admin"
"""The chain of `inet cnm` that belongs to the administrator."""

_FAMILIES = ("inet", "bridge")
_MOST_DESCRIPTORS = 1024  # FD_SETSIZE
_HAS_DESTROY = (6, 3)
_LISTINGS = 20
_RESIZE_SECONDS = 0.002

Chains = dict[str, dict[str, Any]]


class Nft:
    """Both ways into nftables, in the namespace of the thread that makes it; usable from any thread.

    Make it before anything else: libnftables waits with select(), which aborts the process when the context's
    socket has a descriptor of 1,024 or more. Both sockets are kept until the end, since closing one waits for what
    was deleted to be freed, some milliseconds.

    Callers that change elements at the same time share a transaction: whoever finds the lock free sends everything
    that waits.
    """

    def __init__(self) -> None:
        _check_descriptors()
        self._context = _context()
        self._context_lock = threading.Lock()
        self._rules_as_started: dict[str, Chains] = {}
        self._socket = TransactionSocket()
        self._reader = NetlinkSocket(NETLINK_NETFILTER)
        self._lock = threading.Lock()
        self._waiting: deque[_Change] = deque()
        self._deletion = DESTROY_ELEMENT if _kernel_version() >= _HAS_DESTROY else DELETE_ELEMENT

    def close(self) -> None:
        self._socket.close()
        self._reader.close()
        self._context = None

    @property
    def port(self) -> int:
        """The netlink port that changes of elements come from, as their notifications say."""
        return self._socket.port

    # Elements

    def apply(self, add: Iterable[FirewallElement], delete: Iterable[FirewallElement]) -> None:
        """Delete and add elements, all or none. What is there already, or gone already, is fine; a changed value is
        replaced.

        Raises KernelError when the tables are not there or the kernel refuses, InvalidParameter for an element that
        does not fit its set.
        """
        change = _Change(tuple(add), tuple(delete), self._deletion)
        if not change.messages:
            return
        self._waiting.append(change)
        with self._lock:
            if not change.settled:
                self._commit_waiting_locked()
        if change.error is not None:
            raise change.error

    def observe(self, sets: Iterable[ElementSet]) -> frozenset[FirewallElement]:
        """All elements of `sets`; none for a set that does not exist."""
        found: set[FirewallElement] = set()
        for element_set in sets:
            with self._lock:  # our own changes would interrupt the listing again and again
                found |= self._observe_locked(element_set)
        return frozenset(found)

    def _observe_locked(self, element_set: ElementSet) -> frozenset[FirewallElement]:
        """While the kernel resizes a table, what it lists is out of place: some elements twice, others not at all."""
        request = Request(GET_ELEMENT, 0, listing(element_set), f"list set {element_set.name}")
        for _ in range(_LISTINGS):
            try:
                messages = self._reader.dump(request)
            except NetlinkError as error:
                if error.errno == errno.ENOENT:
                    return frozenset()
                raise
            listed = [element for message in messages for element in unpack(element_set, message.payload)]
            found = frozenset(listed)
            if len(found) == len(listed):
                return found
            time.sleep(_RESIZE_SECONDS)
        raise KernelError(f"cannot list set {element_set.name}: the kernel keeps resizing it")

    def _commit_waiting_locked(self) -> None:
        changes = []
        while self._waiting:
            changes.append(self._waiting.popleft())
        try:
            self._socket.commit([message for change in changes for message in change.messages])
        except KernelError:
            for change in changes:
                self._commit_alone_locked(change)
        else:
            for change in changes:
                change.error = None
        finally:
            for change in changes:
                change.settled = True

    def _commit_alone_locked(self, change: _Change) -> None:
        """Only the caller whose change is at fault sees the error."""
        try:
            try:
                self._socket.commit(change.messages)
            except KernelError as error:
                if error.errno not in (errno.EEXIST, errno.ENOENT):
                    raise
                self._socket.commit(self._against_what_exists_locked(change))
        except KernelError as error:
            change.error = error
        else:
            change.error = None

    def _against_what_exists_locked(self, change: _Change) -> list[Message]:
        """The messages again, deleting only what is there, and the old values of what is added."""
        sets = {id(e.set): e.set for e in (*change.add, *change.delete)}.values()
        there = {(id(e.set), e.key): e for element_set in sets for e in self._observe_locked(element_set)}
        going = {(id(e.set), e.key): e for e in change.delete if (id(e.set), e.key) in there}
        for element in change.add:
            old = there.get((id(element.set), element.key))
            if old is not None and old.value != element.value:
                going[id(element.set), element.key] = old
        return pack(DELETE_ELEMENT, 0, going.values()) + pack(NEW_ELEMENT, NLM_F_CREATE, change.add)

    # Rules

    def run(self, script: str) -> str:
        """Run a script in nft(8)'s language as one transaction; lists are answered in JSON, without states.

        Raises KernelError with nft's first complaint.
        """
        with self._context_lock:
            code, output, complaint = self._context.cmd(script)
        if code != 0:
            raise KernelError(f"nftables refused a change: {_one_line(complaint)}")
        return str(output)

    def start(self, script: str) -> None:
        """Run the script that writes our tables, and remember the rules as the kernel lists them afterwards."""
        self.run(script)
        self._rules_as_started = {family: self._rules(family) for family in _FAMILIES}

    def broken_tables(self) -> tuple[tuple[str, str], ...]:
        """(family, name) of our tables whose sets, chains or rules are missing or other than `start` left them.

        The administrator's chain and chains and sets of others in our tables do not count.
        """
        broken = []
        for family in _FAMILIES:
            started = self._rules_as_started.get(family)
            if not started or not started.items() <= self._rules(family).items():
                broken.append((family, TABLE))
        return tuple(broken)

    def _rules(self, family: str) -> Chains:
        """Declarations of sets and chains and the rules in these, by kind and name; empty without the table.

        libnftables 1.0.6 reads all elements to list a table, even where it prints none, but not to list the ruleset.
        """
        found: Chains = {}
        for item in json.loads(self.run(f"list ruleset {family}"))["nftables"]:
            ((kind, content),) = item.items()
            if content.get("table") != TABLE:
                continue
            content.pop("handle")
            if kind == "rule":
                found[f"chain {content['chain']}"].setdefault("rules", []).append(content["expr"])
            else:
                found[f"{kind} {content['name']}"] = content
        found.pop(f"chain {ADMIN_CHAIN}", None)
        return found


class _Change:
    """What one caller wants; `error` counts once it is settled."""

    def __init__(
        self, add: tuple[FirewallElement, ...], delete: tuple[FirewallElement, ...], deletion: int
    ) -> None:
        self.add = add
        self.delete = delete
        self.messages = pack(deletion, 0, delete) + pack(NEW_ELEMENT, NLM_F_CREATE, add)
        self.settled = False
        self.error: KernelError | None = KernelError("the change was abandoned")


def _check_descriptors() -> None:
    """The context's socket gets the lowest free number, as this probe does."""
    probe = os.dup(0)
    os.close(probe)
    if probe >= _MOST_DESCRIPTORS:
        raise KernelError(
            f"cannot use libnftables with descriptor {probe}: it waits with select(), so make it first",
            errno.EMFILE,
        )


def _context() -> Any:
    try:
        context = nftables.Nftables()
    except OSError:
        raise KernelError("libnftables.so.1 is missing: install the package libnftables1") from None
    for setting in (context.set_json_output, context.set_stateless_output, context.set_terse_output):
        setting(True)
    return context


def _kernel_version() -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _one_line(complaint: str) -> str:
    for line in complaint.splitlines():
        _, found, words = line.partition("Error: ")
        if found:
            return words.strip().lower()
    return " ".join(complaint.split()).lower() or "no reason given"

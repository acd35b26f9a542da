"""The contract's values as etcd's messages, and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from cnm.cluster.etcd.contract import (
    Compare,
    Delete,
    Event,
    Get,
    KeyValue,
    Operation,
    Outcome,
    Put,
    Subject,
)
from cnm.cluster.etcd.messages import DELETE_RANGE, MESSAGES, PUT, RANGE, TXN

_COMPARE = MESSAGES["Compare"]
_OPERATION = MESSAGES["RequestOp"]
_EQUAL, _NOT_EQUAL = 0, 3
_TARGETS = {Subject.CREATE_REVISION: 1, Subject.MOD_REVISION: 2, Subject.VALUE: 3, Subject.LEASE: 4}
_DELETED = 1


def key_bytes(key: str) -> bytes:
    """Keys that others wrote need not be text; such bytes stay what they are."""
    return key.encode("utf-8", "surrogateescape")


def key_text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")


def key_range(key: str, prefix: bool) -> dict[str, bytes]:
    """The fields of a request that is for a key, or for every key that begins with it."""
    begin = key_bytes(key)
    return {"key": begin or b"\0", "range_end": range_end(begin)} if prefix else {"key": begin}


def range_end(prefix: bytes) -> bytes:
    """The first key after all that begin with `prefix`; a zero byte where nothing is after them."""
    rest = prefix.rstrip(b"\xff")
    return rest[:-1] + bytes((rest[-1] + 1,)) if rest else b"\0"


def key_value(found: Any) -> KeyValue:
    return KeyValue(
        found.key.decode("utf-8", "surrogateescape"),
        found.value,
        found.create_revision,
        found.mod_revision,
        found.version,
        found.lease,
    )


def key_values(found: Iterable[Any]) -> list[KeyValue]:
    return [key_value(each) for each in found]


def events(changes: Iterable[Any]) -> list[Event]:
    made = []
    for change in changes:
        kv = change.kv
        key = kv.key.decode("utf-8", "surrogateescape")
        if change.type == _DELETED:
            made.append(Event(key, None, kv.mod_revision))
        else:
            made.append(Event(key, kv.value, kv.mod_revision, kv.create_revision))
    return made


def put(key: str, value: bytes, lease: int) -> Any:
    return PUT.request(key=key_bytes(key), value=value, lease=lease)


def delete(key: str, prefix: bool) -> Any:
    return DELETE_RANGE.request(**key_range(key, prefix))


def transaction(
    conditions: Sequence[Compare], then: Sequence[Operation], otherwise: Sequence[Operation]
) -> Any:
    return TXN.request(
        compare=[_compare(each) for each in conditions],
        success=[_operation(each) for each in then],
        failure=[_operation(each) for each in otherwise],
    )


def _compare(condition: Compare) -> Any:
    made = _COMPARE(
        result=_NOT_EQUAL if condition.differs else _EQUAL,
        target=_TARGETS[condition.subject],
        **key_range(condition.key, condition.prefix),
    )
    setattr(made, condition.subject.value, condition.wanted)
    return made


def _operation(operation: Operation) -> Any:
    if isinstance(operation, Put):
        return _OPERATION(request_put=put(*operation))
    if isinstance(operation, Delete):
        return _OPERATION(request_delete_range=delete(*operation))
    return _OPERATION(request_range=RANGE.request(**key_range(operation.key, operation.prefix)))


def outcome(answer: Any, then: Sequence[Operation], otherwise: Sequence[Operation]) -> Outcome:
    taken = then if answer.succeeded else otherwise
    found = [
        key_values(response.response_range.kvs)
        for operation, response in zip(taken, answer.responses, strict=True)
        if isinstance(operation, Get)
    ]
    return Outcome(answer.succeeded, answer.header.revision, found)

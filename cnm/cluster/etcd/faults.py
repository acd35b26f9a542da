"""What a failed call says: whether anything was done, whether another member may help, and the error to raise."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import grpc

from cnm.cluster.etcd.contract import Compacted, Denied, EtcdError
from cnm.errors import CnmError, Conflict, InvalidParameter, NotFound

_CODE = grpc.StatusCode


class Fate(Enum):
    """What became of a call."""

    NOT_DONE = "not done"
    """Nothing was done, for reasons of this member: another one may do it."""
    UNKNOWN = "unknown"
    """It was done, or it was not."""
    LATE = "late"
    """The same, and the member said nothing in time."""
    REVISED = "revised"
    """Nothing was done, since users or roles were changed meanwhile: the same call may succeed."""
    REFUSED = "refused"
    """Nothing was done, and nothing would be anywhere else."""


class Fault(NamedTuple):
    fate: Fate
    code: grpc.StatusCode
    text: str
    """Of whoever noticed, without what gRPC and etcd put before it."""


_NOT_DONE = (
    "no leader",
    "not capable",
    "rpc not supported for learner",
    "unhealthy cluster",
    "too many requests",
)
"""etcd's words, where it asked nobody else to do it (rpctypes/error.go)."""
_NOT_SENT = "failed to connect to all addresses"
"""gRPC's."""
_REVISED = ("revision of auth store is old", "auth: revision in header is old", "invalid auth token")
_COMPACTED = ("required revision has been compacted", "required revision is a future revision")
_DENIED = "permission denied"
"""Maintenance says it without the code that belongs to it."""
_NOBODY = ("user name is empty", "authentication failed, invalid user ID or password")
_TRANSIENT = (_CODE.UNAVAILABLE, _CODE.CANCELLED, _CODE.UNKNOWN, _CODE.INTERNAL, _CODE.ABORTED)


def judge(error: grpc.RpcError) -> Fault:
    code, said = error.code(), str(error.details() or "")
    text = _plain(said)
    if code is _CODE.DEADLINE_EXCEEDED:
        return Fault(Fate.LATE, code, "does not answer")
    if any(each in said for each in _REVISED):
        return Fault(Fate.REVISED, code, text)
    if said.startswith(_NOT_SENT) or any(each in said for each in _NOT_DONE):
        return Fault(Fate.NOT_DONE, code, text)
    transient = code in _TRANSIENT and not said.endswith(_DENIED)
    return Fault(Fate.UNKNOWN if transient else Fate.REFUSED, code, text)


def refusal(fault: Fault, doing: str) -> CnmError:
    """The error of a call that was refused. `doing`: "write /a/key"."""
    line = f"etcd cannot {doing}: {fault.text}"
    if fault.text.endswith(_DENIED) or fault.text in _NOBODY:
        return Denied(line)
    if fault.text.endswith(_COMPACTED):
        return Compacted(line)
    if fault.code is _CODE.INVALID_ARGUMENT:
        return InvalidParameter(line)
    if fault.text.endswith("not found") and "lease" not in fault.text:
        return NotFound(line)
    if fault.code is _CODE.FAILED_PRECONDITION:
        return Conflict(line)
    return EtcdError(line)


_SAID_BEFORE = ("etcdserver: ", "Failed to connect to remote host: ")

_OUT_OF_TIME = {
    "certificate is not yet valid": "its certificate is not valid yet by this host's clock: is that right?",
    "certificate has expired": "its certificate has expired by this host's clock",
}
"""OpenSSL's words, and ours."""


def _plain(said: str) -> str:
    """One line for a user."""
    for begin in _SAID_BEFORE:
        said = said.rpartition(begin)[2]
    for wrong, words in _OUT_OF_TIME.items():
        if wrong in said:
            return words
    if "handshake failed" in said or "Hostname Verification" in said:
        return "its certificate is not of this cluster, or it does not speak TLS"
    if "Unwrap failed" in said:
        return "it does not accept our certificate"
    return said[:1].lower() + said[1:]

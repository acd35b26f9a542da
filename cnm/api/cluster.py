"""/cnm/v1/cluster: whether this host is in a cluster, and the verbs that change it."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterator
from typing import NamedTuple

from flask import Response, request

from cnm.api.routes import Call, Routes
from cnm.errors import CnmError
from cnm.http.server import LONG_STREAM
from cnm.wire import codec
from cnm.wire.cluster import (
    ClusterInit,
    ClusterInitialised,
    ClusterJoin,
    ClusterLeave,
    ClusterRecover,
    ClusterRotate,
    ClusterStatus,
    KnownToken,
    Progress,
    SnapshotFile,
    SnapshotRestore,
    SnapshotSaved,
    Token,
    TokenCreate,
)

log = logging.getLogger("cnm.api")

_LINES = "application/x-ndjson"

routes = Routes()


@routes.get("/cnm/v1/cluster", answer=ClusterStatus)
def cluster_status(call: Call[None]) -> ClusterStatus:
    """Show how the cluster is, as this host sees it."""
    found = call.cluster.status()
    found.warnings += call.backend.cluster_warnings()
    tunnels = call.backend.tunnels()
    for node in found.nodes:
        node.tunnel = tunnels.get(node.name, "")
    return found


@routes.post("/cnm/v1/cluster/init", body=ClusterInit, answer=ClusterInitialised)
def init_cluster(call: Call[ClusterInit]) -> ClusterInitialised:
    """Found a cluster whose first member this host is."""
    return call.cluster.init(call.body)


@routes.post("/cnm/v1/cluster/join", body=ClusterJoin, answer=Progress, media_type=_LINES)
def join_cluster(call: Call[ClusterJoin]) -> Response:
    """Join a cluster. A line for each step, as JSON; the last one says why it failed, if it did."""
    steps = _Steps(call)
    first = steps.next()
    if isinstance(first.failure, CnmError):
        raise first.failure
    request.environ[LONG_STREAM] = True
    return Response(steps.lines(first), content_type=_LINES)


@routes.post("/cnm/v1/cluster/leave", body=ClusterLeave, status=204)
def leave_cluster(call: Call[ClusterLeave]) -> None:
    """Leave the cluster."""
    call.cluster.leave(force=call.body.force)


@routes.post("/cnm/v1/cluster/token", body=TokenCreate, answer=Token, status=201)
def create_token(call: Call[TokenCreate]) -> Token:
    """Make another join token."""
    return call.cluster.token(call.body.ttl)


@routes.get("/cnm/v1/cluster/tokens", answer=list[KnownToken])
def list_tokens(call: Call[None]) -> list[KnownToken]:
    """List the join tokens that have not expired."""
    return call.cluster.tokens()


@routes.delete("/cnm/v1/cluster/tokens/{id}", status=204)
def remove_token(call: Call[None], id: str) -> None:
    """Have nobody join with a token any more."""
    call.cluster.remove_token(id)


@routes.delete("/cnm/v1/cluster/nodes/{name}", status=204, query={"force": "also one that is alive"})
def remove_node(call: Call[None], name: str) -> None:
    """Take a dead node out of the cluster."""
    call.cluster.remove(name, force=call.flag("force"))


@routes.post("/cnm/v1/cluster/rotate", body=ClusterRotate, status=204)
def rotate(call: Call[ClusterRotate]) -> None:
    """Give this node a new key and certificate, or have all nodes replace their keys of encrypted networks."""
    if call.body.keys:
        call.backend.rotate_keys()
    else:
        call.cluster.rotate(authority=call.body.authority)


@routes.post("/cnm/v1/cluster/snapshot", body=SnapshotFile, answer=SnapshotSaved)
def save_snapshot(call: Call[SnapshotFile]) -> SnapshotSaved:
    """Save all that the cluster knows to a file."""
    return call.cluster.snapshot(call.body.path)


@routes.post("/cnm/v1/cluster/restore", body=SnapshotRestore, status=204)
def restore_snapshot(call: Call[SnapshotRestore]) -> None:
    """Go on with what was saved, with this host as the only member."""
    call.cluster.restore(call.body.path, force=call.body.force)


@routes.post("/cnm/v1/cluster/recover", body=ClusterRecover, status=204)
def recover_cluster(call: Call[ClusterRecover]) -> None:
    """Go on without the other members, whose majority is lost."""
    call.cluster.recover(force=call.body.force)


class _Step(NamedTuple):
    """`text` of progress, else the end: with a `failure`, or well."""

    text: str = ""
    failure: Exception | None = None


class _Steps:
    """A join in a thread of its own: it comes to its end whether or not somebody listens."""

    def __init__(self, call: Call[ClusterJoin]) -> None:
        self._news: queue.SimpleQueue[_Step] = queue.SimpleQueue()
        threading.Thread(target=self._run, args=(call,), name="cluster-join", daemon=True).start()

    def next(self) -> _Step:
        return self._news.get()

    def lines(self, step: _Step) -> Iterator[bytes]:
        while step.text:
            yield _line(Progress(progress=step.text))
            step = self.next()
        if step.failure is not None:
            yield _line(Progress(error=str(step.failure)))

    def _run(self, call: Call[ClusterJoin]) -> None:
        failure: Exception | None = None
        try:
            call.cluster.join(call.body, lambda text: self._news.put(_Step(text)))
        except CnmError as error:
            failure = error
        except Exception as error:
            log.exception("cluster join failed")
            failure = CnmError(f"internal error: {' '.join(str(error).split()) or type(error).__name__}")
        self._news.put(_Step(failure=failure))


def _line(progress: Progress) -> bytes:
    return codec.encode(progress) + b"\n"

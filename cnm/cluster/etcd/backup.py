"""A copy of all of etcd's data in a file, checked as it comes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import grpc

from cnm.cluster.etcd.channel import Connection
from cnm.cluster.etcd.contract import EtcdError
from cnm.cluster.etcd.faults import judge, refusal
from cnm.cluster.etcd.messages import SNAPSHOT

_SILENCE = 10.0
"""Seconds without a piece of it after which the member is taken for dead."""
_DIGEST = hashlib.sha256().digest_size


class Saved(NamedTuple):
    size: int
    """Bytes of the file, its digest at the end included."""
    sha256: str
    """Of the data before it, in hex digits."""


def save(connection: Connection, path: Path) -> Saved:
    """Raises EtcdError, Denied, and OSError for `path`, which is then as it was."""
    unready = path.with_name(f"{path.name}.part")
    descriptor = os.open(unready, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            saved = _receive(connection, file)
            file.flush()
            os.fsync(file.fileno())
        unready.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            unready.unlink()
        raise
    return saved


def _receive(connection: Connection, file: BinaryIO) -> Saved:
    """The data's SHA-256 comes behind it, and is kept there: `etcdctl snapshot restore` checks it again."""
    digest, size, last = hashlib.sha256(), 0, b""
    try:
        for piece in _pieces(connection):
            file.write(piece.blob)
            size += len(piece.blob)
            last += piece.blob
            digest.update(last[:-_DIGEST])
            last = last[-_DIGEST:]
    except grpc.RpcError as error:
        raise refusal(judge(error), f"copy its data from {connection.endpoint}") from None
    if size <= _DIGEST or digest.digest() != last:
        raise EtcdError(f"the copy of etcd's data from {connection.endpoint} is damaged: try again")
    return Saved(size, digest.hexdigest())


def _pieces(connection: Connection) -> Iterator[Any]:
    call = connection.download(SNAPSHOT, SNAPSHOT.request())
    heard = [time.monotonic()]
    done = threading.Event()

    def end_when_silent() -> None:
        while not done.wait(1.0):
            if time.monotonic() - heard[0] > _SILENCE:
                call.cancel()

    threading.Thread(target=end_when_silent, name="etcd-backup", daemon=True).start()
    try:
        for piece in call:
            heard[0] = time.monotonic()
            yield piece
    finally:
        done.set()
        call.cancel()

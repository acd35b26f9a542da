"""What the host that a volume leaves says to the one where it arrives: HTTP over TLS, one connection."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any

import msgspec

from cnm.errors import CnmError, Conflict, Forbidden, InvalidParameter, NotFound, Unavailable
from cnm.launcher.moving.arriving import Offer
from cnm.launcher.moving.frames import Frame, packed
from cnm.launcher.moving.listener import PREFIX
from cnm.launcher.moving.peers import ClusterPeers, Peer

_PIECE = 1 << 18
"""Bytes that are sent at once, of small frames many together."""
_ERRORS: dict[int, type[CnmError]] = {
    400: InvalidParameter,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: InvalidParameter,
    503: Unavailable,
}


class Broken(Unavailable):
    """The connection, so that what the other host has done is not known."""


class Sender:
    """Of one move to one host. Every method raises what the other host says, with its name; `Broken`."""

    def __init__(self, peers: ClusterPeers, peer: Peer, move: str, volume: str) -> None:
        """Connects: raises Unavailable, Forbidden as `ClusterPeers.connect`."""
        self._peer = peer
        self._move = move
        self._volume = volume
        self._connection: HTTPConnection = peers.connect(peer)

    def close(self) -> None:
        with suppress(OSError):
            self._connection.close()

    def offer(self, offer: Offer) -> None:
        self._ask("offer", msgspec.json.encode(offer))

    def content(self, frames: Iterator[Frame]) -> None:
        """Raises also what `frames` raises: the other host drops what it has got."""
        path, headers = f"{PREFIX}{self._move}/content", {"Transfer-Encoding": "chunked"}
        try:
            self._connection.request("POST", path, _pieces(frames), headers, encode_chunked=True)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            # It has refused amid the stream, and may have said why.
            self._answered(broken=True)
        except (OSError, HTTPException) as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise  # a file's, and not the connection's
            raise self._broken(error) from None
        else:
            self._answered()

    def commit(self) -> None:
        self._ask("commit", b"{}")

    def settle(self) -> bool:
        """Whether the volume has arrived; it never will if not."""
        return bool(self._ask("settle", self._named())["arrived"])

    def confirm(self) -> None:
        self._ask("confirm", self._named())

    def came_from_here(self) -> bool:
        return bool(self._ask("origin", self._named())["yours"])

    def _named(self) -> bytes:
        return msgspec.json.encode(Offer(name=self._volume))

    def _ask(self, step: str, body: bytes) -> Any:
        try:
            self._connection.request("POST", f"{PREFIX}{self._move}/{step}", body)
        except (OSError, HTTPException) as error:
            raise self._broken(error) from None
        return self._answered()

    def _answered(self, *, broken: bool = False) -> Any:
        try:
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, HTTPException) as error:
            raise self._broken(error) from None
        if response.status >= 400:
            kind = _ERRORS.get(response.status, CnmError)
            raise kind(f"host {self._peer.name}: {_message(response, content)}")
        if broken:
            raise self._broken(None)
        return json.loads(content)

    def _broken(self, error: Exception | None) -> Broken:
        why = (getattr(error, "strerror", None) or str(error or "") or "it was closed").lower()
        return Broken(f"the connection to host {self._peer.name} broke: {why}")


def _pieces(frames: Iterator[Frame]) -> Iterator[bytes]:
    waiting, size = [], 0
    for frame in frames:
        content = packed(frame)
        waiting.append(content)
        size += len(content)
        if size >= _PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _message(response: HTTPResponse, content: bytes) -> str:
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return f"it answers with status {response.status}"

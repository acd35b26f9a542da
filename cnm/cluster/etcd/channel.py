"""One connection to one member of etcd."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import grpc

from cnm.cluster.etcd.messages import Method
from cnm.errors import InvalidParameter

_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
"""The two last ones: how long a member that went away may stay unnoticed once it is back."""

_WITH_LEADER = (("hasleader", "true"),)
"""A member without a leader says so at once, instead of waiting for one."""


class Credentials(NamedTuple):
    """PEM. Without an authority (`ca`) there is no TLS; without `cert` and `key` no certificate is shown."""

    ca: bytes
    cert: bytes
    key: bytes
    server_name: str
    """In the certificate of every member; "": each has the host of its endpoint there."""

    def check(self) -> None:
        """Raises InvalidParameter for what is no PEM; gRPC would only be unable to connect."""
        for what, pem, mark in (
            ("authority", self.ca, b"CERTIFICATE-----"),
            ("certificate", self.cert, b"CERTIFICATE-----"),
            ("private key", self.key, b"PRIVATE KEY-----"),
        ):
            if pem and mark not in pem:
                raise InvalidParameter(f"the {what} for etcd is no PEM text")
        if bool(self.cert) != bool(self.key):
            raise InvalidParameter(
                "a certificate for etcd needs its private key, and the key its certificate"
            )
        if self.cert and not self.ca:
            raise InvalidParameter("a certificate for etcd needs the authority of etcd's own")

    def channel(self, target: str) -> grpc.Channel:
        """To a member; nothing is connected yet."""
        if not self.ca:
            return grpc.insecure_channel(target, _OPTIONS)
        tls = grpc.ssl_channel_credentials(self.ca, self.key or None, self.cert or None)
        named = (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()
        return grpc.secure_channel(target, tls, (*_OPTIONS, *named))


class Connection:
    """To the member at an endpoint, HOST:PORT. It connects when it is first used. Thread-safe.

    Its errors are gRPC's; those of calls that it was closed under are CANCELLED.
    """

    def __init__(self, endpoint: str, credentials: Credentials) -> None:
        self.endpoint = endpoint
        self.late = 0
        """How many calls in a row have had no answer in time."""
        self._channel = credentials.channel(_target(endpoint))
        self._calls: dict[str, Any] = {}

    def call(self, method: Method, request: Any, seconds: float, *, leader: bool = True) -> Any:
        """The answer. Raises grpc.RpcError, also when it takes longer than `seconds`, and ValueError when closed."""
        call = self._calls.get(method.path) or self._prepare(method, self._channel.unary_unary)
        return call(request, seconds, _WITH_LEADER if leader else None)

    def begin(self, method: Method, request: Any, seconds: float, *, leader: bool = True) -> Any:
        """A future of the answer (gRPC's)."""
        call = self._calls.get(method.path) or self._prepare(method, self._channel.unary_unary)
        return call.future(request, seconds, _WITH_LEADER if leader else None)

    def converse(self, method: Method, requests: Iterator[Any]) -> Any:
        """An iterator of the answers to `requests`, which a thread of its own takes; it can be cancelled."""
        call = self._calls.get(method.path) or self._prepare(method, self._channel.stream_stream)
        return call(requests, metadata=_WITH_LEADER)

    def download(self, method: Method, request: Any) -> Any:
        """An iterator of the answers to one request; it can be cancelled."""
        call = self._calls.get(method.path) or self._prepare(method, self._channel.unary_stream)
        return call(request)

    def _prepare(self, method: Method, shape: Any) -> Any:
        made = shape(method.path, method.request.SerializeToString, method.response.FromString)
        return self._calls.setdefault(method.path, made)

    def close(self) -> None:
        """Whatever is on its way is cancelled."""
        self._channel.close()


def _target(endpoint: str) -> str:
    """As gRPC wants it: addresses as such, so that nothing is resolved."""
    host = endpoint.rpartition(":")[0]
    if host.startswith("["):
        return f"ipv6:{endpoint}"
    return f"ipv4:{endpoint}" if host.replace(".", "").isdigit() else f"dns:///{endpoint}"

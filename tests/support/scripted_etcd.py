"""A member of etcd that answers as a test wants it: for what a real one says too rarely to wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from cnm.cluster.etcd.client import Client
from cnm.cluster.etcd.messages import WATCH, Method
from tests.support.etcd_certificates import EtcdAuthority

Answer = Callable[[Any, Any], Any]
"""What is said to a request in a context (gRPC's)."""


def refuse(code: grpc.StatusCode, text: str) -> Answer:
    """An answer that is an error."""
    return lambda request, context: context.abort(code, text)


def say(method: Method, **fields: Any) -> Answer:
    return lambda request, context: method.response(**fields)


class ScriptedEtcd(grpc.GenericRpcHandler):
    """Answers each method with its list of answers, the last one for ever."""

    def __init__(self, authority: EtcdAuthority) -> None:
        self.requests: list[Any] = []
        """All of calls that are answered once."""
        self.opened: list[list[Any]] = []
        """What was asked on each stream of watches."""
        self._answers: dict[str, list[Answer]] = {}
        self._methods: dict[str, Method] = {}
        identity = authority.member(["127.0.0.1"])
        self._server = grpc.server(ThreadPoolExecutor(16))
        self._server.add_generic_rpc_handlers((self,))
        credentials = grpc.ssl_server_credentials(
            [(identity.key, identity.cert)], authority.pem, require_client_auth=True
        )
        self.endpoint = f"127.0.0.1:{self._server.add_secure_port('127.0.0.1:0', credentials)}"
        self._server.start()

    def on(self, method: Method, *answers: Answer) -> None:
        """For WATCH an answer is given an iterator of what is asked, and yields."""
        self._methods[method.path] = method
        self._answers[method.path] = list(answers)

    def asked(self, method: Method) -> list[Any]:
        return [each for each in self.requests if isinstance(each, method.request)]

    def stop(self) -> None:
        self._server.stop(None).wait()

    def service(self, handler_call_details: Any) -> Any:
        method = self._methods.get(handler_call_details.method)
        if method is None:
            return None
        if method is WATCH:
            make, behaviour = grpc.stream_stream_rpc_method_handler, self._converse
        else:
            make, behaviour = grpc.unary_unary_rpc_method_handler, self._answer
        return make(behaviour, method.request.FromString, method.response.SerializeToString)

    def _next(self, path: str) -> Answer:
        answers = self._answers[path]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def _answer(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        path = next(path for path, each in self._methods.items() if isinstance(request, each.request))
        return self._next(path)(request, context)

    def _converse(self, requests: Iterator[Any], context: Any) -> Any:
        asked: list[Any] = []
        self.opened.append(asked)

        def remembered() -> Iterator[Any]:
            for request in requests:
                asked.append(request)
                yield request

        return self._next(WATCH.path)(remembered(), context)


@contextmanager
def scripted_etcds(count: int = 1) -> Iterator[tuple[Client, list[ScriptedEtcd]]]:
    """Some, and a client of them, which asks the first of the list first."""
    authority = EtcdAuthority()
    servers = [ScriptedEtcd(authority) for _ in range(count)]
    who = authority.client("root")
    client = Client([each.endpoint for each in servers], authority.pem, who.cert, who.key)
    try:
        yield client, sorted(servers, key=lambda each: client.endpoints.index(each.endpoint))
    finally:
        client.close()
        for server in servers:
            server.stop()

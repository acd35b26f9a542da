"""The plugin as dockerd sees it: calls that are recorded, and answers that are held against the rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.support.fake_dockerd.answers import LinkExists, accept_any_link, check, read
from tests.support.fake_dockerd.client import PluginClient, encode
from tests.support.fake_dockerd.errors import DockerError
from tests.support.fake_dockerd.ledger import Ledger


@dataclass(frozen=True)
class Call:
    """One call; `step` is the docker command that caused it, `answer` is None where it was an error."""

    step: str
    path: str
    request: dict[str, Any] | None
    answer: dict[str, Any] | None
    error: str = ""


class Plugin:
    """The plugin at the other end of a client."""

    def __init__(self, client: PluginClient, link_exists: LinkExists = accept_any_link) -> None:
        self._client, self._link_exists = client, link_exists
        self.ledger = Ledger()
        self.calls: list[Call] = []
        self.step = ""

    def ask(self, path: str, request: dict[str, Any] | None = None, *, again: bool = False) -> dict[str, Any]:
        """The answer, as a document without nulls. `again`: something held already is asked for once more.

        Raises PluginError, TransportError, ProtocolViolation.
        """
        try:
            document = read(path, self._client.post(path, encode(request)))
        except DockerError as error:
            self.calls.append(Call(self.step, path, request, None, str(error)))
            raise
        self.calls.append(Call(self.step, path, request, document))
        check(path, request, document, self._link_exists)
        self.ledger.note(path, request, document, again=again)
        return document

    def close(self) -> None:
        """Closes the connections, as an ending dockerd does."""
        self._client.close()

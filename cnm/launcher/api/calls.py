"""One request as a handler of the launcher's sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Generic, TypeVar

from cnm.api.versions import Version
from cnm.errors import InvalidParameter
from cnm.http.server import HAS_LEFT
from cnm.launcher.engine import Engine

B = TypeVar("B")

_FALSE = ("", "0", "no", "false", "none")
"""Docker's (api/server/httputils/form.go): everything else is true."""


@dataclass(frozen=True, slots=True)
class Call(Generic[B]):
    """Path parameters are the handler's further arguments."""

    engine: Engine
    version: Version
    query: Mapping[str, str]
    body: B
    environ: dict[str, Any]
    """WSGI's."""

    @property
    def backend(self) -> Engine:
        """What happens is heard of, for the stream of events."""
        return self.engine

    def flag(self, name: str, missing: bool = False) -> bool:
        """A query parameter that is true or false, as clients spell it; `missing` where it is not there."""
        value = self.query.get(name)
        return missing if value is None else value.strip().lower() not in _FALSE

    def number(self, name: str) -> int | None:
        """None where it is missing. Raises InvalidParameter."""
        value = self.query.get(name, "")
        try:
            return int(value) if value else None
        except ValueError:
            raise InvalidParameter(f"invalid value for {name}: {value!r}: it must be a number") from None

    def needed_number(self, name: str) -> int:
        """Raises InvalidParameter."""
        number = self.number(name)
        if number is None:
            raise InvalidParameter(f"{name} is required: it must be a number")
        return number

    @property
    def has_left(self) -> bool:
        """Whether the client has gone, so that nothing need go on for it."""
        return bool(self.environ[HAS_LEFT]())

    @property
    def stream(self) -> BinaryIO:
        """The body as it arrives, of requests whose body is no JSON."""
        found: BinaryIO = self.environ["wsgi.input"]
        return found

"""Volumes between the hosts of a cluster, for which the Engine API has no words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import msgspec
from flask import Response

from cnm.api.routes import Routes
from cnm.errors import CnmError, InvalidParameter
from cnm.launcher import progress
from cnm.launcher.api.calls import Call
from cnm.launcher.api.streams import endless
from cnm.launcher.moving.departure import Departure
from cnm.wire import codec
from cnm.wire.keys import docker_key

routes = Routes()


class VolumeMove(msgspec.Struct, kw_only=True, rename=docker_key):
    """POST /cnm/v1/volumes/{volume}/move; `force`: also where containers have it that do not run."""

    host: str = ""
    force: bool = False


@routes.post("/cnm/v1/volumes/{volume}/move", body=VolumeMove)
def move_volume(call: Call[VolumeMove], volume: str) -> Response:
    """Take a volume with its data to another host of the cluster. Lines of JSON tell how far it is, as of a pull."""
    if not call.body.host:
        raise InvalidParameter("host is required: name another host of the cluster")
    return answer(call, call.engine.departures.begin(volume, call.body.host, force=call.body.force))


def answer(call: Call[Any], departure: Departure) -> Response:
    """The lines; whoever does not stay for all of them gives the move up."""
    response = endless(call, _lines(departure), "application/json")
    response.call_on_close(departure.give_up)  # its client may be gone before the first line
    return response


def _lines(departure: Departure) -> Iterator[bytes]:
    with closing(departure.messages()) as messages:  # type: ignore[type-var]
        try:
            for each in messages:
                yield b"" if each is None else codec.encode(each) + b"\r\n"
        except CnmError as error:
            yield codec.encode(progress.failure(str(error))) + b"\r\n"


@routes.post("/cnm/v1/volumes/{volume}/keep", status=204)
def keep_volume(call: Call[None], volume: str) -> None:
    """Have a volume again of which nobody can say whether it has come to another host."""
    call.engine.settling.keep(volume)

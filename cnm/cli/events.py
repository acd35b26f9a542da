"""`cnmctl events`: what happens to containers, networks, sandboxes and endpoints, as it happens."""

from __future__ import annotations

import json
import re
from datetime import datetime

from cnm.cli.client import Client, filters
from cnm.cli.flags import FILTER, STRING, Arguments, Command, Flag
from cnm.cli.launcher_client import launcher_or_cnmd
from cnm.cli.output import FORMAT_HELP
from cnm.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Go's units of durations, in seconds."""


def events(client: Client, arguments: Arguments) -> int:
    line = _line_of(arguments["format"])
    query = filters(arguments["filter"])
    now = datetime.now()
    for name in ("since", "until"):
        if arguments[name]:
            query[name] = timestamp(arguments[name], now)
    for event in launcher_or_cnmd(client).stream("/events", query):
        print(line(event), flush=True)
    return 0


def timestamp(text: str, now: datetime) -> str:
    """Seconds since 1970, with nanoseconds where there are any.

    `text` is a Unix time, a date (local unless it says its zone) or a duration such as `1h30m` before `now`.
    Raises InvalidParameter for anything else.
    """
    if re.fullmatch(r"[0-9]+(\.[0-9]{1,9})?", text):
        return text
    if re.fullmatch(r"([0-9]+(\.[0-9]+)?(h|ms|m|us|ns|s))+", text):
        parts = re.findall(r"([0-9.]+)(h|ms|m|us|ns|s)", text)
        ago = sum(float(amount) * _UNITS[unit] for amount, unit in parts)
        return str(int(now.timestamp() - ago))
    match = re.fullmatch(
        r"([0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9:]+)?)(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})?", text
    )
    try:
        if match is None:
            raise ValueError
        moment = datetime.fromisoformat(match[1] + (match[3] if match[3] and "T" in match[1] else ""))
        return f"{int(moment.timestamp())}.{(match[2] or '.')[1:].ljust(9, '0')}"
    except (ValueError, OverflowError, OSError):
        raise InvalidParameter(f'failed to parse value as time or duration: "{text}"') from None


def _line_of(form: str) -> Callable[[Any], str]:
    if not form:
        return _plain_line
    if form == "json":
        return lambda event: json.dumps(event, separators=(",", ":"), ensure_ascii=False)
    from cnm.cli.template import Template

    template = Template(form)
    return lambda event: template.execute(_record(event))


def _plain_line(event: dict[str, Any]) -> str:
    actor = event["Actor"]
    attributes = actor.get("Attributes") or {}
    details = ", ".join(f"{key}={attributes[key]}" for key in sorted(attributes))
    line = f"{_moment(event)} {event['Type']} {event['Action']} {actor['ID']}"
    return f"{line} ({details})" if details else line


def _moment(event: dict[str, Any]) -> str:
    seconds, nanoseconds = divmod(event["timeNano"], 1_000_000_000)
    local = datetime.fromtimestamp(seconds).astimezone()
    zone = local.strftime("%z")
    return f"{local:%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}" + (
        "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    )


def _record(event: dict[str, Any]) -> Any:
    from cnm.cli.template import Struct

    actor = event["Actor"]
    fields = {
        "Status": event.get("status", ""),
        "ID": event.get("id", ""),
        "From": event.get("from", ""),
        "Type": event["Type"],
        "Action": event["Action"],
        "Actor": Struct(
            "events.Actor", {"ID": actor["ID"], "Attributes": actor.get("Attributes") or {}}, json=actor
        ),
        "Scope": event.get("scope", ""),
        "Time": event.get("time", 0),
        "TimeNano": event.get("timeNano", 0),
    }
    return Struct("*events.Message", fields, json=event)


EVENTS = Command(
    "events",
    "Show what happens, until interrupted",
    events,
    "",
    (
        Flag("filter", FILTER, "Show only what matches NAME=VALUE; may be repeated", "f"),
        Flag("format", STRING, FORMAT_HELP),
        Flag("since", STRING, "Begin at this time: a date, a Unix time, or a duration ago such as 10m"),
        Flag("until", STRING, "End at this time"),
    ),
)

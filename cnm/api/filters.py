"""Docker's `filters` query parameter: its encodings, and what each filter selects. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from cnm.api import times
from cnm.errors import InvalidParameter
from cnm.events import Event
from cnm.network import Network

Filters = Mapping[str, tuple[str, ...]]

NETWORK_FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
PRUNE_FILTERS = frozenset({"label", "label!", "until"})
EVENT_FILTERS = frozenset(
    {"container", "endpoint", "event", "label", "network", "sandbox", "scope", "type"}
    | {"config", "daemon", "image", "node", "plugin", "secret", "service", "volume"}
)

_LONGEST_PATTERN = 128
_REPETITIONS = 3


def decode(text: str, known: Collection[str]) -> Filters:
    """Both encodings of Docker's clients: `{"name": {"x": true}}` and `{"name": ["x"]}`.

    Raises InvalidParameter, for a filter outside `known` with Docker's words.
    """
    if not text:
        return {}
    try:
        given = msgspec.json.decode(text.encode("utf-8", "surrogatepass"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidParameter(f"invalid filters {text[:80]!r}: they must be a JSON object") from None
    if not isinstance(given, dict):
        raise InvalidParameter(f"invalid filters {text[:80]!r}: they must be a JSON object")
    for name in given:
        if name not in known:
            raise InvalidParameter(f"invalid filter '{name}': known are {', '.join(sorted(known))}")
    return {name: _values(name, values) for name, values in given.items()}


def network_selector(filters: Filters) -> Callable[[Network, bool], bool]:
    """Whether a network, given whether it is in use, passes `filters` (those of NETWORK_FILTERS)."""
    unused = dangling(filters)
    kinds = _kinds(filters)
    names, ids = (patterns(filters.get(key, ())) for key in ("name", "id"))
    drivers, scopes, wanted = (filters.get(key, ()) for key in ("driver", "scope", "label"))

    def selects(network: Network, in_use: bool) -> bool:
        return (
            (not drivers or network.driver in drivers)
            and (not scopes or network.scope in scopes)
            and names(network.name)
            and ids(network.id)
            and has_labels(network.labels, wanted)
            and (unused is None or unused is not (in_use or network.predefined))
            and (not kinds or ("builtin" if network.predefined else "custom") in kinds)
        )

    return selects


def prune_keeper(filters: Filters, now: int) -> Callable[[Network], bool]:
    """Whether a network is kept by a prune with `filters` (those of PRUNE_FILTERS); `now` in nanoseconds."""
    until = filters.get("until", ())
    if len(until) > 1:
        raise InvalidParameter("more than one until filter specified: give one")
    limit = times.parse(until[0], now) if until else now
    wanted, unwanted = filters.get("label", ()), filters.get("label!", ())

    def keeps(network: Network) -> bool:
        return (
            times.parse(network.created, now) > limit
            or not has_labels(network.labels, wanted)
            or (bool(unwanted) and has_labels(network.labels, unwanted))
        )

    return keeps


def event_selector(filters: Filters) -> Callable[[Event], bool]:
    """Whether an event passes `filters` (those of EVENT_FILTERS); an object is named by id or name."""

    def selects(event: Event) -> bool:
        return all(_event_passes(event, name, values) for name, values in filters.items() if values)

    return selects


def has_labels(labels: Mapping[str, str], wanted: Collection[str]) -> bool:
    """Whether all of `wanted` (`KEY` or `KEY=VALUE`) are there."""
    return all(_has_label(labels, *label.partition("=")) for label in wanted)


def patterns(values: Collection[str]) -> Callable[[str], bool]:
    """Docker's match: a value is the text itself or a regular expression found in it; any one suffices."""
    expressions = [_expression(value) for value in values]

    def matches(text: str) -> bool:
        return not values or text in values or any(e is not None and e.search(text) for e in expressions)

    return matches


def _has_label(labels: Mapping[str, str], key: str, equals: str, value: str) -> bool:
    return key in labels and (not equals or labels[key] == value)


def _values(name: str, values: Any) -> tuple[str, ...]:
    """The values that are asked for; `{"x": false}` asks for nothing."""
    if isinstance(values, dict) and all(isinstance(on, bool) for on in values.values()):
        return tuple(str(value) for value, on in values.items() if on)
    if isinstance(values, list) and all(isinstance(value, str) for value in values):
        return tuple(values)
    raise InvalidParameter(f"invalid values of filter '{name}': give a list of strings")


def dangling(filters: Filters) -> bool | None:
    """What is said of objects that nothing uses, None for nothing. Raises InvalidParameter."""
    values = filters.get("dangling", ())
    if len(values) > 1:
        raise InvalidParameter('got more than one value for filter key "dangling"')
    if not values:
        return None
    if values[0] not in ("true", "1", "false", "0"):
        raise InvalidParameter(
            'invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")'
        )
    return values[0] in ("true", "1")


def _kinds(filters: Filters) -> tuple[str, ...]:
    kinds = filters.get("type", ())
    for kind in kinds:
        if kind not in ("builtin", "custom"):
            raise InvalidParameter(f"invalid filter: 'type'='{kind}': it must be builtin or custom")
    return kinds


def _expression(value: str) -> re.Pattern[str] | None:
    """A value that is no regular expression only matches itself.

    Python's engine backtracks, where Go's does not: what could take it exponential time is refused.
    """
    repetitions = len(re.findall(r"[*+?{]", value))
    if len(value) > _LONGEST_PATTERN or repetitions > _REPETITIONS or ("(" in value and repetitions):
        raise InvalidParameter(
            f"filter value {value[:40]!r} is too complex: use text with ^ $ . and up to three of * + ?"
        )
    try:
        return re.compile(value)
    except (re.error, OverflowError):
        return None


def _event_passes(event: Event, name: str, values: tuple[str, ...]) -> bool:
    match name:
        case "type":
            return event.type in values
        case "event":
            return any(_is_action(event.action, value) for value in values)
        case "scope":
            return "local" in values
        case "label":
            return has_labels(event.attributes, values)
        case "container" | "sandbox":
            return _names(event, ("sandbox", "container"), values)
        case _:
            return _names(event, (name,), values)


_BEGINNINGS = ("health_status", "exec_create", "exec_start")


def _is_action(action: str, value: str) -> bool:
    """Docker's actions of some kinds go on with what exactly it was, as `health_status: healthy`."""
    return action == value or (value in _BEGINNINGS and action.startswith(value))


def _names(event: Event, kinds: tuple[str, ...], values: tuple[str, ...]) -> bool:
    """Whether the event is about, or mentions, an object of one of `kinds` that one of `values` names."""
    mentioned = [event.attributes[kind] for kind in kinds if kind in event.attributes]
    if event.type in kinds:
        mentioned += [event.id, event.attributes.get("name", "")]
    return any(value and (text == value or text.startswith(value)) for text in mentioned for value in values)

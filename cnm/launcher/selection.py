"""Which containers a list is to show: Docker's filters of `ps` and `prune` (daemon/list.go of 20.10)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from cnm.api.filters import patterns
from cnm.errors import CnmError, InvalidParameter, NotFound
from cnm.launcher.container import Container, Status

CONTAINER_FILTERS = frozenset(
    {
        "ancestor",
        "before",
        "expose",
        "exited",
        "health",
        "id",
        "is-task",
        "isolation",
        "label",
        "name",
        "network",
    }
    | {"publish", "since", "status", "volume"}
)
PRUNE_FILTERS = frozenset({"label", "label!", "until"})

Filters = Mapping[str, Sequence[str]]


class Known(NamedTuple):
    """What filters refer to."""

    container: Callable[[str], Container]
    """Raises NotFound."""
    images: Callable[[str], Collection[str]]
    """Ids of an image and of those that are made of it. Raises NotFound."""
    network: Callable[[str], str]
    """The name. Raises NotFound, Unavailable."""
    health: Callable[[str], str]
    """Of a container's id, "" where it is not checked."""
    ports: Callable[[Container], Sequence[Mapping[str, Any]]]
    """Those that it has now, as a list of containers shows them."""


def selected(
    containers: Sequence[Container], wanted: Filters, known: Known, *, everything: bool, limit: int | None
) -> list[Container]:
    """In the order given, the newest first. Raises InvalidParameter, NotFound for a container that is named."""
    states = {Status(each) for each in _statuses(wanted.get("status", ()))}
    codes = {_number(text) for text in wanted.get("exited", ())}
    limits = [known.container(each).created for each in wanted.get("before", ())]
    since = [known.container(each).created for each in wanted.get("since", ())]
    images = _images(wanted, known)
    networks = _networks(wanted, known)
    published, exposed = (_ports(name, wanted.get(name, ())) for name in ("publish", "expose"))
    called = patterns(wanted.get("name", ()))
    _check_values(wanted)
    most = limit if limit is not None and limit > 0 else None
    shows_all = everything or bool(states) or most is not None

    def passes(container: Container) -> bool:
        state = container.state
        return (
            (shows_all or state.status.is_alive or state.status is Status.RESTARTING)
            and (not states or state.status in states)
            and (
                not codes or (bool(state.finished) and not state.status.is_alive and state.exit_code in codes)
            )
            and all(container.created < each for each in limits)
            and all(container.created > each for each in since)
            and (images is None or container.image in images)
            and (called(container.name) or called(f"/{container.name}"))
            and _any(wanted, "id", container.id.startswith)
            and (networks is None or not networks.isdisjoint(container.networks))
            and (not (published or exposed) or _has_port(known.ports(container), published, exposed))
            and _any(wanted, "volume", lambda text: _has_volume(container, text))
            and _any(wanted, "is-task", lambda text: text in _FALSE)
            and _any(wanted, "health", lambda text: text == (known.health(container.id) or "none"))
            and has_labels(container, wanted.get("label", ()))
        )

    found = [container for container in containers if passes(container)]
    return found[:most]


def _any(wanted: Filters, name: str, matches: Callable[[str], bool]) -> bool:
    texts = wanted.get(name, ())
    return not texts or any(map(matches, texts))


def _images(wanted: Filters, known: Known) -> set[str] | None:
    """Ids; None for all. A name that no image has selects nothing."""
    if "ancestor" not in wanted:
        return None
    found: set[str] = set()
    for reference in wanted["ancestor"]:
        with contextlib.suppress(NotFound, InvalidParameter):
            found.update(known.images(reference))
    return found


def _networks(wanted: Filters, known: Known) -> set[str] | None:
    """Names; None for all. A network is asked for by its name or id."""
    if "network" not in wanted:
        return None
    found = set(wanted["network"])
    for reference in wanted["network"]:
        with contextlib.suppress(CnmError):
            found.add(known.network(reference))
    return found


def _has_port(ports: Sequence[Mapping[str, Any]], published: set[str], exposed: set[str]) -> bool:
    """Either suffices, the host's or its own: of one that does not run, none."""
    return any(
        f"{port.get('PublicPort', 0)}/{port['Type']}" in published
        or f"{port['PrivatePort']}/{port['Type']}" in exposed
        for port in ports
    )


def _has_volume(container: Container, text: str) -> bool:
    """By what is mounted, a volume's name or a path of the host, or where."""
    return any(text in (point.name or point.source, point.destination) for point in container.points)


_TRUE, _FALSE = ("1", "true"), ("0", "false")
_HEALTH = ("none", "starting", "healthy", "unhealthy")
_PORTS = re.compile(r"(?P<first>\d{1,5})(?:-(?P<last>\d{1,5}))?(?:/(?P<protocol>[a-z]+))?", re.ASCII)


def _check_values(wanted: Filters) -> None:
    for text in wanted.get("health", ()):
        if text not in _HEALTH:
            raise InvalidParameter(f"invalid filter 'health={text}'")
    for text in wanted.get("is-task", ()):
        if text not in (*_TRUE, *_FALSE):
            raise InvalidParameter(f"invalid filter 'is-task={text}'")


def _ports(name: str, texts: Sequence[str]) -> set[str]:
    """As "80/tcp", of "80", "80/tcp" and "8000-8010/udp"."""
    found = set()
    for text in texts:
        match = _PORTS.fullmatch(text)
        first = int(match["first"]) if match else 0
        last = int(match["last"] or first) if match else 0
        if not match or not 0 <= first <= last <= 65_535:
            raise InvalidParameter(f"invalid filter '{name}={text}': give a port as 80, 80/udp or 80-90/tcp")
        found |= {f"{port}/{match['protocol'] or 'tcp'}" for port in range(first, last + 1)}
    return found


def has_labels(container: Container, wanted: Sequence[str]) -> bool:
    """All of them, as "key" or "key=value"."""
    labels = container.config.labels or {}
    return all(
        labels.get(key) == value if separator else key in labels
        for key, separator, value in (text.partition("=") for text in wanted)
    )


def _statuses(texts: Sequence[str]) -> Sequence[str]:
    known = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
    for text in texts:
        if text not in known:
            raise InvalidParameter(f"invalid filter 'status={text}'")
    return texts


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidParameter(f"invalid filter 'exited={text}'") from None

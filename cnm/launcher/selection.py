"""Which containers a list is to show: Docker's filters of `ps` and `prune`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from cnm.errors import InvalidParameter
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
    image: Callable[[str], str]
    """The id. Raises NotFound."""
    health: Callable[[str], str]
    """Of a container's id, "" where it is not checked."""


def selected(
    containers: Sequence[Container], wanted: Filters, known: Known, *, everything: bool, limit: int | None
) -> list[Container]:
    """In the order given, the newest first. Raises InvalidParameter, NotFound for a container that is named."""
    states = {Status(each) for each in _statuses(wanted.get("status", ()))}
    codes = {_number(text) for text in wanted.get("exited", ())}
    limits = [known.container(each).created for each in wanted.get("before", ())]
    since = [known.container(each).created for each in wanted.get("since", ())]
    images = {known.image(each) for each in wanted.get("ancestor", ())}
    shows_all = everything or bool(states or codes or limits or since) or limit is not None

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
            and (not images or container.image in images)
            and _any(wanted, "name", lambda text: text.removeprefix("/") in container.name)
            and _any(wanted, "id", container.id.startswith)
            and _any(wanted, "network", lambda text: text in container.networks)
            and _any(wanted, "health", lambda text: text == (known.health(container.id) or "none"))
            and has_labels(container, wanted.get("label", ()))
        )

    found = [container for container in containers if passes(container)]
    return found[:limit] if limit is not None and limit > 0 else found


def _any(wanted: Filters, name: str, matches: Callable[[str], bool]) -> bool:
    texts = wanted.get(name, ())
    return not texts or any(map(matches, texts))


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

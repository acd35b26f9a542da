"""Searches of Docker Hub, and of registries by their list of repositories (`_catalog`)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import msgspec

from cnm.errors import CnmError, InvalidParameter
from cnm.launcher.references import familiar
from cnm.launcher.registries import HUB, Credentials, address
from cnm.launcher.registry_client import Asker, RegistryClient
from cnm.launcher.registry_words import explained

_USUAL, _MOST = 25, 100
_Record = dict[str, Any]
"""As the Engine API has it of a repository."""


class _Found(msgspec.Struct, rename="pascal"):
    """podman's form."""

    name: str
    description: str = ""
    stars: int = 0
    official: str = ""
    automated: str = ""


def search(
    client: RegistryClient,
    term: str,
    limit: int | None,
    wanted: Mapping[str, Sequence[str]],
    credentials: Credentials,
) -> Generator[None, None, list[_Record]]:
    """Docker's records of at most `limit` repositories, 25 where that is None; None now and then before.

    `term` begins with HOST[:PORT]/ for another registry than Docker Hub. Raises InvalidParameter and CnmError.
    """
    if limit is not None and not 1 <= limit <= _MOST:
        raise InvalidParameter(f"Limit {limit} is outside the range of [1, {_MOST}]")
    registry = _registry(term)
    words = term if registry != HUB else f"{HUB}/{term.removeprefix(f'{HUB}/')}"
    selects = _selector(wanted)
    asker = Asker(registry, credentials)
    form = ("--no-trunc", "--format", "json", "--limit", str(limit or _USUAL))
    try:
        told = yield from client.asking("search", asker, *form, words)
    except CnmError as error:
        raise explained(error, asker) from None
    found = msgspec.json.decode(told or "[]", type=list[_Found])
    return [record for record in map(_record, found) if selects(record)]


def _selector(wanted: Mapping[str, Sequence[str]]) -> Callable[[_Record], bool]:
    """Of those that the registry gives, as many as are asked for. Raises InvalidParameter in Docker's words."""
    least = max((_number(text) for text in wanted.get("stars", ())), default=0)
    kinds = {
        f"is_{kind}": _truth(f"is-{kind}", wanted[f"is-{kind}"])
        for kind in ("official", "automated")
        if f"is-{kind}" in wanted
    }

    def selects(record: _Record) -> bool:
        has_stars: bool = record["star_count"] >= least
        return has_stars and all(record[kind] is truth for kind, truth in kinds.items())

    return selects


def _number(text: str) -> int:
    if not text.isdecimal():
        raise InvalidParameter(f"Invalid filter 'stars={text}'")
    return int(text)


def _truth(name: str, given: Sequence[str]) -> bool:
    if list(given) not in (["true"], ["false"]):
        raise InvalidParameter(f"Invalid filter '{name}=[{' '.join(given)}]'")
    return given[0] == "true"


def _registry(term: str) -> str:
    first, slash, _ = term.partition("/")
    return address(first) if slash and (set(first) & set(".:") or first == "localhost") else HUB


def _record(found: _Found) -> _Record:
    return {
        "star_count": found.stars,
        "is_official": bool(found.official),
        "name": familiar(found.name),
        "is_automated": bool(found.automated),
        "description": found.description,
    }

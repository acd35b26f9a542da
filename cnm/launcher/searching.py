"""Searches of Docker Hub, and of registries by their list of repositories (`_catalog`)."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import msgspec

from cnm.errors import CnmError, InvalidParameter
from cnm.launcher.references import familiar
from cnm.launcher.registries import HUB, Credentials, address
from cnm.launcher.registry_client import Asker, RegistryClient
from cnm.launcher.registry_words import explained

_USUAL, _MOST = 25, 100


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
) -> Generator[None, None, list[dict[str, Any]]]:
    """Docker's records of at most `limit` repositories, 25 where that is None; None now and then before.

    `term` begins with HOST[:PORT]/ for another registry than Docker Hub. Raises InvalidParameter and CnmError.
    """
    if limit is not None and not 1 <= limit <= _MOST:
        raise InvalidParameter(f"Limit {limit} is outside the range of [1, {_MOST}]")
    registry = _registry(term)
    words = term if registry != HUB else f"{HUB}/{term.removeprefix(f'{HUB}/')}"
    options = [f"--filter={key}={value}" for key, values in wanted.items() for value in values]
    asker = Asker(registry, credentials)
    form = ("--no-trunc", "--format", "json", "--limit", str(limit or _USUAL))
    try:
        told = yield from client.asking("search", asker, *form, *options, words)
    except CnmError as error:
        raise explained(error, asker) from None
    return [_record(each) for each in msgspec.json.decode(told or "[]", type=list[_Found])]


def _registry(term: str) -> str:
    first, slash, _ = term.partition("/")
    return address(first) if slash and (set(first) & set(".:") or first == "localhost") else HUB


def _record(found: _Found) -> dict[str, Any]:
    return {
        "star_count": found.stars,
        "is_official": bool(found.official),
        "name": familiar(found.name),
        "is_automated": bool(found.automated),
        "description": found.description,
    }

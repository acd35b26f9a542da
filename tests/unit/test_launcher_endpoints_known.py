"""What the launcher remembers of endpoints, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from cnm.errors import NotFound
from cnm.launcher.endpoints_known import EndpointsKnown


class _Cnmd:
    """Counts how often it is asked; `meanwhile` happens before it answers."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.meanwhile = lambda: None

    def __call__(self, ident: str) -> list[dict[str, Any]]:
        self.asked.append(ident)
        self.meanwhile()
        return [{"Id": f"{ident}{len(self.asked)}"}]


@pytest.fixture
def cnmd() -> _Cnmd:
    return _Cnmd()


@pytest.fixture
def known() -> EndpointsKnown:
    made = EndpointsKnown()
    made.follow(True)
    return made


def test_one_is_asked_for_once(known: EndpointsKnown, cnmd: _Cnmd) -> None:
    assert known.of("a", cnmd) == known.of("a", cnmd) == [{"Id": "a1"}]
    assert known.of("b", cnmd) == [{"Id": "b2"}]


def test_a_change_makes_it_ask_again(known: EndpointsKnown, cnmd: _Cnmd) -> None:
    known.of("a", cnmd)
    known.changed()
    assert known.of("a", cnmd) == [{"Id": "a2"}]


def test_what_was_asked_before_a_change_is_not_kept(known: EndpointsKnown, cnmd: _Cnmd) -> None:
    cnmd.meanwhile = known.changed
    known.of("a", cnmd)
    known.of("a", cnmd)
    assert cnmd.asked == ["a", "a"]


def test_nothing_is_kept_while_changes_are_not_heard(known: EndpointsKnown, cnmd: _Cnmd) -> None:
    known.of("a", cnmd)
    known.follow(False)
    known.of("a", cnmd)
    known.of("a", cnmd)
    assert cnmd.asked == ["a", "a", "a"]


def test_a_refusal_is_not_kept(known: EndpointsKnown, cnmd: _Cnmd) -> None:
    def refuse(ident: str) -> list[dict[str, Any]]:
        raise NotFound(ident)

    with pytest.raises(NotFound):
        known.of("a", refuse)
    assert known.of("a", cnmd) == [{"Id": "a1"}]

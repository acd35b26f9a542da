"""Join tokens: what their text holds, and what is said of one that was copied badly."""

from __future__ import annotations

import os
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnm.cluster import tokens
from cnm.errors import InvalidParameter

AUTHORITY = bytes(range(32))


def test_a_token_says_what_it_was_made_of() -> None:
    token = tokens.new(AUTHORITY, 1_800_000_000)

    assert tokens.parse(str(token)) == token
    assert token.expires == 1_800_000_000
    assert token.is_for(AUTHORITY)
    assert not token.is_for(os.urandom(32))


def test_its_text_survives_any_copying() -> None:
    text = str(tokens.new(AUTHORITY, int(time.time())))

    assert re.fullmatch(r"CNM1-[a-z2-7]{52}-[a-z2-7]{32}", text)
    assert tokens.parse(f" {text}\n") == tokens.parse(text.upper())


def test_etcd_learns_a_digest_and_not_the_secret() -> None:
    token = tokens.new(AUTHORITY, 0)

    assert re.fullmatch(r"[0-9a-f]{64}", token.key)
    assert tokens.secret_digest(tokens.parse_secret(tokens.secret_text(token.secret))) == token.key
    assert token.secret.hex() not in token.key


def test_no_two_secrets_are_alike() -> None:
    assert len({tokens.new(AUTHORITY, 5).secret for _ in range(100)}) == 100


@pytest.mark.parametrize("text", ["", "SWMTKN-1-abc", "CNM1", "CNM1-abc", "CNM1-ab-cd-ef", "CNM1-a!b-cde"])
def test_what_is_no_token_is_malformed(text: str) -> None:
    with pytest.raises(
        InvalidParameter, match=r"^malformed join token: it begins with CNM1- and is printed by"
    ):
        tokens.parse(text)


@given(st.integers(1, 30))
def test_a_token_without_its_end_is_malformed(lost: int) -> None:
    text = str(tokens.JoinToken(AUTHORITY, bytes(20)))

    with pytest.raises(InvalidParameter, match=r"^malformed join token: a part of it is missing"):
        tokens.parse(text[:-lost])


def test_a_token_of_a_later_version_is_told_so() -> None:
    text = str(tokens.new(AUTHORITY, 0)).replace("CNM1", "CNM2")

    with pytest.raises(
        InvalidParameter, match=r"^join token of version 2: this cnm knows version 1 only, upgrade it$"
    ):
        tokens.parse(text)


@pytest.mark.parametrize("text", ["", "abc", "1", "ab" * 40])
def test_what_is_no_secret_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^malformed"):
        tokens.parse_secret(text)


@pytest.mark.parametrize("seconds", [0, 59, 30 * 24 * 3600 + 1])
def test_a_life_that_no_token_can_have_is_refused(seconds: int) -> None:
    with pytest.raises(InvalidParameter, match=r"^ttl must be between 1m and 720h"):
        tokens.check_seconds(seconds)

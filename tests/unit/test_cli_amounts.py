"""Sizes, durations and numbers of CPUs as Go writes and reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnm.cli.amounts import duration, nano_cpus, size

SECOND = 10**9


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", 0),
        ("512", 512),
        ("1b", 1),
        ("64k", 64 << 10),
        ("64KB", 64 << 10),
        ("1.5g", 3 << 29),
        ("1 GiB", 1 << 30),
        ("2t", 2 << 40),
        (".5m", 1 << 19),
        ("1.", 1),
    ],
)
def test_size_is_in_powers_of_1024(text: str, amount: int) -> None:
    assert size(text) == amount


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "1x", "1ib", "1kk", "1  k", " 1", "1e3", "1_0", "٣", "8192p"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"invalid size: '{text}'"):
        size(text)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", 0),
        ("-0", 0),
        ("1s", SECOND),
        ("1m30s", 90 * SECOND),
        ("1h", 3600 * SECOND),
        ("500ms", SECOND // 2),
        ("1.5s", 3 * SECOND // 2),
        (".5s", SECOND // 2),
        ("1us", 1000),
        ("1µs", 1000),
        ("3ns", 3),
        ("-2s", -2 * SECOND),
        ("+2s", 2 * SECOND),
        ("0.1s", SECOND // 10),
    ],
)
def test_duration_is_in_nanoseconds(text: str, amount: int) -> None:
    assert duration(text) == amount


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", 'invalid duration ""'),
        ("x", 'invalid duration "x"'),
        ("s", 'invalid duration "s"'),
        ("5", 'missing unit in duration "5"'),
        ("1s5", 'missing unit in duration "1s5"'),
        ("1x", 'unknown unit "x" in duration "1x"'),
        ("1 s", 'unknown unit " s" in duration "1 s"'),
        ("--1s", 'invalid duration "--1s"'),
        ("9999999999h", 'invalid duration "9999999999h"'),
    ],
)
def test_what_is_no_duration_is_refused_with_gos_words(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match="duration") as caught:
        duration(text)

    assert str(caught.value) == wrong


@given(st.integers(0, 10**5), st.integers(0, 59), st.integers(0, 999_999_999))
def test_duration_is_exact(hours: int, minutes: int, nanoseconds: int) -> None:
    text = f"{hours}h{minutes}m0.{nanoseconds:09d}s"

    assert duration(text) == (hours * 3600 + minutes * 60) * SECOND + nanoseconds


@pytest.mark.parametrize(
    ("text", "amount"), [("1", 10**9), ("1.5", 15 * 10**8), ("3/2", 15 * 10**8), ("5e-1", 5 * 10**8)]
)
def test_cpus_are_in_billionths(text: str, amount: int) -> None:
    assert nano_cpus(text) == amount


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("x", "failed to parse x as a rational number"),
        ("1/0", "failed to parse 1/0 as a rational number"),
        ("0.0000000001", "value is too precise"),
    ],
)
def test_what_is_no_number_of_cpus_is_refused(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        nano_cpus(text)

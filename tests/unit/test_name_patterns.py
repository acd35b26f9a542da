"""Patterns of names are Go's path.Match. The cases are from the documentation of that function, and its tests."""

from __future__ import annotations

import pytest

from cnm.errors import InvalidParameter
from cnm.launcher.name_patterns import matches


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*c", "abc", True),
        ("a*", "a", True),
        ("a*", "ab/c", False),
        ("a*/b", "abc/b", True),
        ("a*/b", "a/c/b", False),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
        ("a?b", "a☺b", True),
        ("a?b", "a/b", False),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("ab[^b-d]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("a[^a]b", "a☺b", True),
        ("a[^a][^a][^a]b", "a☺b", False),
        ("[a-ζ]*", "α", True),
        ("*[a-ζ]", "A", False),
        ("[\\]a]", "]", True),
        ("[\\-]", "-", True),
        ("[x\\-]", "x", True),
        ("[x\\-]", "-", True),
        ("[x\\-]", "z", False),
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("[a-b-c]", "-", None),
        ("[]a]", "]", None),
        ("[-]", "-", None),
        ("[x-]", "x", None),
        ("[-x]", "x", None),
        ("[", "a", None),
        ("[^", "a", None),
        ("[^bc", "a", None),
        ("a[", "ab", None),
        ("\\", "a", None),
        ("[b-a]", "a", False),
        ("[!a]", "!", True),
        ("[!a]", "b", False),
        ("a.c", "abc", False),
        ("team/*:[0-9]", "team/cli:1", True),
    ],
)
def test_a_pattern_fits_as_it_does_in_go(pattern: str, name: str, fits: bool | None) -> None:
    if fits is None:
        with pytest.raises(InvalidParameter, match="syntax error in pattern"):
            matches(pattern, name)
    else:
        assert matches(pattern, name) is fits

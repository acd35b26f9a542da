"""`.dockerignore`: which paths its patterns hold."""

from __future__ import annotations

import pytest

from cnm.errors import InvalidParameter
from cnm.ignored_files import IgnoredFiles


@pytest.mark.parametrize(
    ("patterns", "held", "sent"),
    [
        ("a", ["a", "a/b", "a/b/c"], ["b", "b/a", "ab"]),
        ("/a/", ["a", "a/b"], ["b/a"]),
        ("*.md", ["x.md"], ["d/x.md", "x.mdx"]),
        ("*/x", ["d/x", "d/x/y"], ["x", "d/e/x"]),
        ("**/x", ["x", "d/x", "d/e/x", "d/x/y"], ["ax"]),
        ("**", ["a", "a/b"], []),
        ("d/**", ["d/a", "d/a/b"], ["e"]),
        ("d/**/*.go", ["d/a.go", "d/e/a.go"], ["a.go", "d/a.c"]),
        ("?x", ["ax"], ["x", "aax", "/x"]),
        ("[a-c]x", ["ax", "cx"], ["dx"]),
        ("[^a]x", ["bx"], ["ax"]),
        (r"\*x", ["*x"], ["ax"]),
        ("# a\n\n  b  ", ["b"], ["a", "# a"]),
        ("*.md\n!keep.md", ["x.md"], ["keep.md"]),
        ("!keep.md\n*.md", ["keep.md"], []),
        ("d\n!d/keep", ["d", "d/x"], ["d/keep"]),
        (".", [], ["a"]),
        ("./a/../b", ["b"], ["a"]),
        ("a.b", ["a.b"], ["aXb"]),
    ],
)
def test_patterns_hold_paths(patterns: str, held: list[str], sent: list[str]) -> None:
    ignored = IgnoredFiles(patterns.splitlines())

    assert [path for path in [*held, *sent] if ignored.holds(path)] == held


def test_what_is_sent_in_any_case_is_not_held() -> None:
    ignored = IgnoredFiles(["**"], sent=["./sub/Dockerfile"])

    assert not ignored.holds("sub/Dockerfile")
    assert ignored.holds("sub/other")
    assert not ignored.prunes("sub")
    assert ignored.prunes("other")


def test_a_directory_is_looked_into_where_there_are_exceptions() -> None:
    assert IgnoredFiles(["d"]).prunes("d")
    assert not IgnoredFiles(["d", "!d/keep"]).prunes("d")


@pytest.mark.parametrize("pattern", ["!", "[a", "a["])
def test_a_wrong_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidParameter):
        IgnoredFiles([pattern])

"""The grammar of the command line is that of Docker's own client."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnm.cli.flags import (
    BOOLEAN,
    FILTER,
    INTEGER,
    LABELS,
    LIST,
    MAP,
    STRING,
    STRINGS,
    Arguments,
    Command,
    Flag,
    UsageError,
    parse,
)

FLAGS = (
    Flag("all", BOOLEAN, "", "a"),
    Flag("filter", FILTER, "", "f"),
    Flag("ipv4", BOOLEAN, "", "", True),
    Flag("label", LABELS, ""),
    Flag("link", LIST, ""),
    Flag("opt", MAP, "", "o"),
    Flag("priority", INTEGER, ""),
    Flag("quiet", BOOLEAN, "", "q"),
    Flag("subnet", STRINGS, "", "s"),
    Flag("driver", STRING, "", "d", "bridge"),
)


def command(operands: str = "[NAME...]", passes_rest: bool = False) -> Command:
    return Command("make", "", lambda client, arguments: 0, operands, FLAGS, (), passes_rest)


def parsed(*words: str) -> Arguments:
    return parse(command(), words, "cnmctl net make")


def refusal(*words: str, operands: str = "[NAME...]") -> str:
    with pytest.raises(UsageError) as caught:
        parse(command(operands), words, "cnmctl net make")
    assert caught.value.exit_code == 2
    line, _, remedy = str(caught.value).rpartition(": ")
    assert remedy == "see 'cnmctl net make --help'"
    return line


@pytest.mark.parametrize(
    ("words", "flag", "value"),
    [
        ([], "driver", "bridge"),
        ([], "ipv4", True),
        ([], "quiet", False),
        (["--driver", "x"], "driver", "x"),
        (["--driver=x"], "driver", "x"),
        (["--driver="], "driver", ""),
        (["--driver", "--quiet"], "driver", "--quiet"),
        (["-d", "x"], "driver", "x"),
        (["-dx"], "driver", "x"),
        (["-d=x"], "driver", "x"),
        (["-qdx"], "driver", "x"),
        (["-qd", "x"], "quiet", True),
        (["-aq"], "all", True),
        (["--ipv4=false"], "ipv4", False),
        (["--ipv4=0"], "ipv4", False),
        (["--quiet=T"], "quiet", True),
        (["-q=false"], "quiet", False),
        (["-q", "--quiet=false"], "quiet", False),
        (["--priority", "-5"], "priority", -5),
        (["--priority=0x10"], "priority", 16),
        (["--subnet", "a,b", "-s", "c"], "subnet", ["a", "b", "c"]),
        (["--subnet", ""], "subnet", []),
        (["--link", "a,b", "--link", "c"], "link", ["a,b", "c"]),
        (["-o", "a", "-o", "b=c=d"], "opt", {"a": "", "b": "c=d"}),
        (["--label", "a", "--label", "b=c"], "label", {"a": "", "b": "c"}),
        (["-f", "Name=a", "-fname=b", "--filter", "x= y "], "filter", {"name": ["a", "b"], "x": ["y"]}),
        (["-f", ""], "filter", {}),
    ],
)
def test_flag_is_read_in_every_way_of_writing_it(words: list[str], flag: str, value: Any) -> None:
    assert parsed(*words)[flag] == value


def test_flags_may_stand_between_operands() -> None:
    arguments = parsed("a", "-q", "b", "--driver", "x", "c")

    assert arguments.operands == ["a", "b", "c"]
    assert arguments["quiet"]


def test_two_dashes_end_the_flags() -> None:
    assert parsed("-q", "--", "-a", "--", "b").operands == ["-a", "--", "b"]


def test_a_single_dash_is_an_operand() -> None:
    assert parsed("-").operands == ["-"]


def test_what_was_given_is_told_from_what_is_default() -> None:
    assert parsed("--ipv4=true").given == {"ipv4"}


@pytest.mark.parametrize(
    "words",
    [["web", "ls", "-q", "--help"], ["web", "--", "ls", "-q", "--help"], ["--", "web", "ls", "-q", "--help"]],
)
def test_the_words_of_another_program_are_left_to_it(words: list[str]) -> None:
    arguments = parse(command("NAME COMMAND [ARG...]", passes_rest=True), words, "cnmctl exec")

    assert arguments.operands == ["web", "ls", "-q", "--help"]
    assert not arguments["quiet"]


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["a", "b", "--help", "--unknown"], ["-qh"]])
def test_help_wins_over_what_follows(words: list[str]) -> None:
    assert parsed(*words).help


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["--nope=1"], "unknown flag: --nope"),
        (["--quie"], "unknown flag: --quie"),
        (["-qz"], "unknown shorthand flag: 'z' in -qz"),
        (["--driver"], "flag needs an argument: --driver"),
        (["-qd"], "flag needs an argument: 'd' in -qd"),
        (["--ipv4=maybe"], 'invalid argument "maybe" for "--ipv4" flag: use true or false'),
        (["-q="], 'invalid argument "" for "-q, --quiet" flag: use true or false'),
        (["--priority", "x"], 'invalid argument "x" for "--priority" flag: not a whole number'),
        (["--priority", "٣"], 'invalid argument "٣" for "--priority" flag: not a whole number'),
        (["--priority", " 3"], 'invalid argument " 3" for "--priority" flag: not a whole number'),
        (["--priority", str(2**63)], f'invalid argument "{2**63}" for "--priority" flag: value out of range'),
        (
            ["-f", "x"],
            'invalid argument "x" for "-f, --filter" flag: bad format of filter (expected name=value)',
        ),
        (["--label", "=x"], 'invalid argument "=x" for "--label" flag: invalid label \'=x\': empty name'),
    ],
)
def test_wrong_flag_is_named_with_what_is_wrong(words: list[str], line: str) -> None:
    assert refusal(*words) == line


@pytest.mark.parametrize(
    ("operands", "words", "line"),
    [
        ("", ["a"], "'cnmctl net make' accepts no arguments"),
        ("NAME", [], "'cnmctl net make' requires 1 argument"),
        ("NAME", ["a", "b"], "'cnmctl net make' requires 1 argument"),
        ("NAME OTHER", ["a"], "'cnmctl net make' requires 2 arguments"),
        ("NAME [NAME...]", [], "'cnmctl net make' requires at least 1 argument"),
        ("NAME COMMAND [ARG...]", ["a"], "'cnmctl net make' requires at least 2 arguments"),
        ("[NAME]", ["a", "b"], "'cnmctl net make' requires at most 1 argument"),
    ],
)
def test_wrong_number_of_operands_is_counted(operands: str, words: list[str], line: str) -> None:
    assert refusal(*words, operands=operands) == line


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=8), max_size=6))
def test_any_words_are_either_read_or_refused_in_one_line(words: list[str]) -> None:
    try:
        parsed(*words)
    except UsageError as error:
        line = str(error)
    else:
        return
    assert re.fullmatch(r"(?s).+: see 'cnmctl net make --help'", line)

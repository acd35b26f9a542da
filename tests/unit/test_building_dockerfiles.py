"""Dockerfiles taken apart: steps, stages, and what is wrong on which line."""

from __future__ import annotations

import pytest

from cnm.errors import InvalidParameter
from cnm.launcher.building.dockerfile import Dockerfile
from cnm.launcher.building.parsing import parse


def _parsed(text: str, **arguments: str) -> Dockerfile:
    return parse(text, arguments)


def _steps(text: str) -> list[tuple[int, str]]:
    return [(step.line, step.text) for stage in _parsed(text).stages for step in stage.steps]


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("FROM a\nRUN x\n", [(1, "FROM a"), (2, "RUN x")]),
        ("\n# c\nfrom a\n\nrun  x  \n", [(3, "from a"), (5, "run  x")]),
        ("FROM a\nRUN x \\\n  # c\n\n  y\nENV A=1", [(1, "FROM a"), (2, "RUN x   y"), (6, "ENV A=1")]),
        ("FROM a\r\nRUN x \\\r\n y\r\n", [(1, "FROM a"), (2, "RUN x  y")]),
        ("FROM a\nRUN x \\  \ny\n", [(1, "FROM a"), (2, "RUN x y")]),
        ("# escape=`\nFROM a\nRUN x `\ny \\\n", [(2, "FROM a"), (3, "RUN x y \\")]),
        (
            "# a comment\n# escape=`\nFROM a\nRUN x `\nENV A=1\n",
            [(3, "FROM a"), (4, "RUN x `"), (5, "ENV A=1")],
        ),
        ("\ufeffFROM a\nRUN x\\", [(1, "FROM a"), (2, "RUN x")]),
        ("FROM a\nRUN echo '\u2028'\n", [(1, "FROM a"), (2, "RUN echo '\u2028'")]),
    ],
)
def test_steps_have_the_lines_on_which_they_begin(text: str, steps: list[tuple[int, str]]) -> None:
    assert _steps(text) == steps


def test_stages_have_names_and_images_with_values_of_arguments() -> None:
    text = "ARG A=x\nARG B=$A:1\nFROM --platform=linux/amd64 $B AS One\nFROM ${A}y\n"

    found = _parsed(text)
    given = _parsed(text, A="z")

    assert [(stage.name, stage.base) for stage in found.stages] == [("one", "x:1"), ("", "xy")]
    assert [stage.base for stage in given.stages] == ["z:1", "zy"]
    assert found.steps == 4


def test_a_target_is_a_name_or_a_number() -> None:
    found = _parsed("FROM a AS one\nFROM b AS two\nFROM c\n")

    assert [stage.base for stage in found.up_to("two").stages] == ["a", "b"]
    assert [stage.base for stage in found.up_to("TWO").stages] == ["a", "b"]
    assert [stage.base for stage in found.up_to("0").stages] == ["a"]
    with pytest.raises(InvalidParameter, match="failed to reach build target three in Dockerfile"):
        found.up_to("three")


def test_labels_of_a_request_are_the_last_steps() -> None:
    labelled = _parsed("FROM a\nFROM b\n").with_labels({"z": "1", "a": 'b "$c'})

    assert [step.text for step in labelled.stages[-1].steps] == ["FROM b", 'LABEL a=b "$c', "LABEL z=1"]
    assert labelled.stages[-1].steps[1].rest == '"a"="b \\"\\$c"'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("FROM a\n\nFOO x\n", "line 3: unknown instruction: FOO"),
        ("FROM a\nRUN x \\\n y\nRUNN z\n", "line 4: unknown instruction: RUNN"),
        ("", "file with no instructions"),
        ("RUN x\n", "line 1: no build stage in current context"),
        ("FROM a b\n", "line 1: FROM requires either one or three arguments"),
        ("FROM a of b\n", "line 1: FROM requires either one or three arguments"),
        ("FROM a AS 1x\n", 'line 1: invalid name for build stage: "1x"'),
        ("FROM a AS x\nFROM b AS x\n", "line 2: x stage name already used"),
        ("FROM $A\n", "base name .* should not be blank"),
        ("FROM a\nRUN\n", "line 2: RUN requires at least one argument"),
        ("FROM a\nCOPY x\n", "line 2: COPY requires at least two arguments, but only one"),
        ("FROM a\nCOPY --nope x y\n", "line 2: Unknown flag: nope"),
        ("FROM a\nCOPY x y z\n", "line 2: When using COPY with more than one source file"),
        ("FROM a\nCOPY --from=0 x y\n", "line 2: invalid from flag value 0: index out of bounds"),
        ("FROM a\nENV A\n", "line 2: ENV must have two arguments"),
        ("FROM a\nEXPOSE x\n", "line 2: Invalid containerPort: x"),
        ("FROM a\nHEALTHCHECK FOO\n", 'line 2: Unknown type "FOO" in HEALTHCHECK'),
        ("FROM a\nONBUILD ONBUILD RUN x\n", "line 2: Chaining ONBUILD"),
        ("FROM a\nONBUILD FROM x\n", "line 2: FROM isn't allowed as an ONBUILD trigger"),
        ("# escape=x\nFROM a\n", "invalid escape token 'x'"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, fault: str) -> None:
    with pytest.raises(InvalidParameter, match=fault):
        _parsed(text)


@pytest.mark.parametrize(
    "step",
    [
        'RUN ["a"]',
        "CMD",
        "ENTRYPOINT",
        "EXPOSE $PORT 80/udp 8000-8001",
        'COPY ["a b", "c"]',
        "COPY x y /z/",
        "COPY x y .",
        "COPY --chown=1:2 --from=one x y",
        'LABEL a=b "c d"=e',
        "ENV A b c",
        "HEALTHCHECK --interval=1s CMD x",
        "HEALTHCHECK NONE",
        "ADD http://x/y /",
        "VOLUME /a /b",
        'SHELL ["sh"]',
        "STOPSIGNAL 9",
        "MAINTAINER me and you",
    ],
)
def test_what_is_right_is_taken(step: str) -> None:
    assert _steps(f"FROM a AS one\nFROM b\n{step}\n")[-1] == (3, step)

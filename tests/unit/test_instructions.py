"""Changes to an image's configuration in the words of a Dockerfile."""

from __future__ import annotations

from typing import Any

import pytest

from cnm.errors import InvalidParameter
from cnm.launcher.instructions import changed
from cnm.wire.containers import Config, Health


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ("CMD sh -c 'a b'", "cmd", ["/bin/sh", "-c", "sh -c 'a b'"]),
        ("CMD", "cmd", ["/bin/sh", "-c"]),
        ("ENTRYPOINT", "entrypoint", None),
        ("USER a 'b c'", "user", "a b c"),
        ("WORKDIR a b", "working_dir", "/srv/a b"),
        ("EXPOSE 80-81:90-91 $NONE", "exposed_ports", {"90/tcp": {}, "91/tcp": {}}),
        ('CMD ["sh", "-c"]', "cmd", ["sh", "-c"]),
        ('entrypoint ["/init"]', "entrypoint", ["/init"]),
        ("ENV A=b", "env", ["OLD=1", "A=b"]),
        ("ENV A=b C='d e' F=\"g $OLD\"", "env", ["OLD=1", "A=b", "C=d e", "F=g 1"]),
        ("ENV A b  c", "env", ["OLD=1", "A=b  c"]),
        ("ENV OLD=${OLD}2", "env", ["OLD=12"]),
        ("ENV A=${NONE:-x}${OLD:+y}${OLD:-z}${NONE:+w}", "env", ["OLD=1", "A=xy1"]),
        (r"ENV A=\$OLD B='$OLD' C=a\ b", "env", ["OLD=1", "A=$OLD", "B=$OLD", "C=a b"]),
        ("EXPOSE 80 53/udp 8000-8002", "exposed_ports", _ports := {}),
        ('LABEL a=b c.d="e f"', "labels", {"a": "b", "c.d": "e f"}),
        ("USER 1000:$OLD", "user", "1000:1"),
        ("VOLUME /a /b", "volumes", {"/a": {}, "/b": {}}),
        ('VOLUME ["/a b"]', "volumes", {"/a b": {}}),
        ("WORKDIR app", "working_dir", "/srv/app"),
        ("WORKDIR /x/../y", "working_dir", "/y"),
        ("ONBUILD RUN make $OLD", "on_build", ["RUN make $OLD"]),
        ("HEALTHCHECK NONE", "healthcheck", Health(test=["NONE"])),
        (
            "HEALTHCHECK --interval=1m30s --timeout=500ms --retries=3 CMD curl x",
            "healthcheck",
            Health(test=["CMD-SHELL", "curl x"], interval=90 * 10**9, timeout=5 * 10**8, retries=3),
        ),
        ('HEALTHCHECK CMD ["a", "b"]', "healthcheck", Health(test=["CMD", "a", "b"])),
    ],
)
def test_an_instruction_changes_its_field(change: str, field: str, value: Any) -> None:
    before = Config(env=["OLD=1"], working_dir="/srv")

    after = changed(before, [change])

    assert getattr(after, field) == value
    assert before == Config(env=["OLD=1"], working_dir="/srv")


_ports.update({f"{port}/tcp": {} for port in (80, 8000, 8001, 8002)} | {"53/udp": {}})


def test_instructions_follow_each_other() -> None:
    after = changed(Config(), ["ENV A=1", "ENV B=$A \\", "C=3", "# a comment", "USER $B"])

    assert after.env == ["A=1", "B=1", "C=3"]
    assert after.user == "1"


def test_an_entrypoint_takes_the_old_command_away_but_not_a_new_one() -> None:
    old = Config(cmd=["old"])

    assert changed(old, ['ENTRYPOINT ["/init"]']).cmd is None
    assert changed(old, ['CMD ["new"]', 'ENTRYPOINT ["/init"]']).cmd == ["new"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("RUN make", "run is not a valid change command"),
        ("STOPSIGNAL TERM", "stopsignal is not a valid change command"),
        ("nonsense", "nonsense is not a valid change command"),
        ("USER", "USER requires exactly one argument"),
        ("# nothing", "file with no instructions"),
        ("EXPOSE 80/foo", "Invalid proto: foo"),
        ("VOLUME []", "VOLUME requires at least one argument"),
        ("ENV A=${x", "failed to process \"${x\": missing ':' in substitution"),
        ("ENV A=${X:?why}", 'failed to process "${X:?why}": X: why'),
        ("HEALTHCHECK --interval=5 CMD x", 'time: missing unit in duration "5"'),
        ("HEALTHCHECK --retries=x CMD x", 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("HEALTHCHECK --foo=5s CMD x", "Unknown flag: foo"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV A=1 B", 'Syntax error - can\'t find = in "B". Must be of the form: name=value'),
        ("ENV =1", "ENV names can not be blank"),
        ("EXPOSE x", "Invalid containerPort: x"),
        ("EXPOSE 70000", "Invalid containerPort: 70000"),
        ('VOLUME [""]', "VOLUME specified can not be an empty string"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK x", 'Unknown type "X" in HEALTHCHECK (try CMD)'),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK --interval=soon CMD x", 'time: invalid duration "soon"'),
        (
            "LABEL a='b",
            'failed to process "\'b": unexpected end of statement while looking for matching single-quote',
        ),
    ],
)
def test_a_wrong_instruction_is_refused(change: str, problem: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        changed(Config(), [change])

    assert str(refused.value) == problem

"""cnmctl as a program: where the daemon is, help, exit codes, what it loads, and that it never shows a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.cli.main import COMMANDS, GROUPS, command, group, main
from cnm.cli.reference import page
from tests.unit.cli_daemon import FakeDaemon, fake_daemon, network

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with fake_daemon() as daemon:
        daemon.answers("GET", "/networks", [network(f"net{number}") for number in range(2000)])
        yield daemon


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `cnmctl WORDS`."""
    code = main(words)
    out, err = capsys.readouterr()
    return code, out, err


class TestHost:
    @pytest.mark.parametrize("form", ["{}", "unix://{}"])
    def test_flag_and_environment_take_a_path_or_an_address(
        self,
        daemon: FakeDaemon,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        form: str,
    ) -> None:
        host = form.format(daemon.socket)

        by_flag = said(capsys, "-H", host, "network", "ls", "-q")
        monkeypatch.setenv("CNM_HOST", host)
        by_environment = said(capsys, "network", "ls", "-q")

        assert by_flag[0] == 0
        assert by_flag == by_environment

    def test_flag_wins_over_environment(
        self, daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CNM_HOST", "/nowhere/s")

        assert said(capsys, f"--host={daemon.socket}", "network", "ls")[0] == 0

    def test_without_either_it_is_the_systems(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CNM_HOST", "")
        monkeypatch.setattr("cnm.cli.main.DEFAULT_HOST", "unix:///nowhere/default")

        assert said(capsys, "network", "ls")[2].startswith(
            "cnmctl: cannot connect to cnmd at unix:///nowhere/default:"
        )

    def test_scheme_that_is_not_built_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert said(capsys, "-H", "tcp://x:1", "network", "ls") == (
            1,
            "",
            "cnmctl: cannot reach tcp://x:1: only Unix sockets are served, use unix:///PATH\n",
        )


class TestUsage:
    @pytest.mark.parametrize(
        ("words", "line"),
        [
            (["bogus"], "unknown command: cnmctl bogus: see 'cnmctl --help'"),
            (["--bogus"], "unknown flag: --bogus: see 'cnmctl --help'"),
            (["network", "bogus"], "unknown command: cnmctl network bogus: see 'cnmctl network --help'"),
            (["network", "--bogus"], "unknown flag: --bogus: see 'cnmctl network --help'"),
            (
                ["network", "rm"],
                "'cnmctl network rm' requires at least 1 argument: see 'cnmctl network rm --help'",
            ),
            (
                ["network", "list", "x"],
                "'cnmctl network ls' accepts no arguments: see 'cnmctl network ls --help'",
            ),
            (
                ["sandbox", "exec", "x"],
                "'cnmctl sandbox exec' requires at least 2 arguments: see 'cnmctl sandbox exec --help'",
            ),
            (["doctor", "x"], "'cnmctl doctor' accepts no arguments: see 'cnmctl doctor --help'"),
        ],
    )
    def test_wrong_command_line_is_one_line_and_exit_2(
        self, capsys: pytest.CaptureFixture[str], words: list[str], line: str
    ) -> None:
        assert said(capsys, *words) == (2, "", f"cnmctl: {line}\n")

    @pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
    def test_program_lists_every_noun_and_command(
        self, capsys: pytest.CaptureFixture[str], words: list[str]
    ) -> None:
        code, out, _ = said(capsys, *words)

        listed = {
            line.split()[0]
            for line in out.splitlines()
            if line.startswith("  ") and not line.startswith("   ")
        }
        assert code == 0
        assert {*GROUPS, *COMMANDS} <= listed

    @pytest.mark.parametrize("noun", GROUPS)
    def test_noun_alone_lists_its_commands(self, capsys: pytest.CaptureFixture[str], noun: str) -> None:
        code, out, _ = said(capsys, noun)

        assert code == 0
        assert said(capsys, noun, "--help")[1] == out
        assert all(f"\n  {each.name} " in out for each in group(noun).commands)

    @pytest.mark.parametrize(
        "words",
        [
            *([noun, each.name] for noun in GROUPS for each in group(noun).commands),
            *([name] for name in COMMANDS),
        ],
        ids=" ".join,
    )
    def test_command_explains_every_flag_it_takes(
        self, capsys: pytest.CaptureFixture[str], words: list[str]
    ) -> None:
        described = command(words[0]) if len(words) == 1 else group(words[0]).find(words[1])

        code, out, err = said(capsys, *words, "--help")

        assert (code, err) == (0, "")
        assert out.startswith(f"Usage:  cnmctl {' '.join(words)}")
        assert all(f"--{flag.name}" in out for flag in described.flags)
        assert max(map(len, out.splitlines())) <= 80

    def test_words_that_may_be_typed_are_whole(self, capsys: pytest.CaptureFixture[str]) -> None:
        out = said(capsys, "run", "--help")[1]

        assert all(
            text in out for text in ("no-new-privileges", "on-failure[:MAX]", "[HOST-IP:][HOST-PORT:]PORT")
        )
        assert "(default -1)" in out

    def test_reference_page_is_what_the_program_says(self) -> None:
        written = (CHECKOUT / "docs" / "cnmctl.md").read_text()

        assert written == page(), "run: python -m cnm.cli.reference > docs/cnmctl.md"


def run(*words: str, **settings: object) -> subprocess.Popen[str]:
    """cnmctl as a process of its own."""
    options: dict[str, object] = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
        "cwd": CHECKOUT,
    }
    return subprocess.Popen([sys.executable, "-m", "cnm.cli", *words], **{**options, **settings})  # type: ignore[call-overload,no-any-return]


class TestProcess:
    def test_reader_that_goes_away_is_no_traceback(self, daemon: FakeDaemon) -> None:
        with run("-H", daemon.socket, "network", "ls") as process:
            process.stdout.close()  # type: ignore[union-attr]
            complaint = process.stderr.read()  # type: ignore[union-attr]

        assert (process.returncode, complaint) == (141, "")

    def test_full_disk_is_one_line(self, daemon: FakeDaemon) -> None:
        with (
            open("/dev/full", "w") as full,
            run("-H", daemon.socket, "network", "ls", stdout=full) as process,
        ):
            complaint = process.stderr.read()  # type: ignore[union-attr]

        assert process.returncode == 1
        assert complaint == "cnmctl: cannot write the output: no space left on device\n"

    def test_closed_stdout_is_no_traceback(self, daemon: FakeDaemon) -> None:
        command_line = f"exec {sys.executable} -m cnm.cli -H {daemon.socket} network ls >&-"

        done = subprocess.run(
            ["sh", "-c", command_line], cwd=CHECKOUT, capture_output=True, text=True, check=False
        )

        assert "Traceback" not in done.stderr

    def test_interrupt_is_130_and_silent(self, tmp_path: Path) -> None:
        with fake_daemon() as daemon:
            # An event, then silence: the stream stays open because its length is never reached.
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            line = b'{"Type":"network","Action":"create","Actor":{"ID":"x"},"timeNano":1,"time":0}\n'
            daemon.holds("/events", head + b"%x\r\n%s\r\n" % (len(line), line))
            with run("-H", daemon.socket, "events") as process:
                assert "network create x" in process.stdout.readline()  # type: ignore[union-attr]
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=20)

        assert (process.returncode, out, err) == (130, "", "")

    def test_name_that_is_no_text_is_echoed_as_it_came(self) -> None:
        with fake_daemon() as daemon:
            daemon.answers("DELETE", "/networks/%FFx", status=204)

            done = subprocess.run(
                [sys.executable, "-m", "cnm.cli", "-H", daemon.socket, "network", "rm", b"\xffx"],
                cwd=CHECKOUT,
                capture_output=True,
                check=False,
            )

        assert (done.returncode, done.stdout, done.stderr) == (0, b"\xffx\n", b"")

    @pytest.mark.parametrize(
        "words", [["network", "ls"], ["sandbox", "ls"], ["endpoint", "ls"], ["port", "ls"]]
    )
    def test_listing_loads_only_what_it_needs(self, daemon: FakeDaemon, words: list[str]) -> None:
        for path in ("/cnm/v1/sandboxes", "/cnm/v1/endpoints"):
            daemon.answers("GET", path, [])
        script = (
            "import sys; before = set(sys.modules)\n"
            "from cnm.cli.main import main\n"
            f"code = main({['-H', daemon.socket, *words]!r})\n"
            "print(*sorted(set(sys.modules) - before), file=sys.stderr); sys.exit(code)"
        )

        # -S: a checkout's .pth files load modules of their own
        done = subprocess.run(
            [sys.executable, "-S", "-c", script],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            text=True,
            check=True,
        )

        loaded = set(done.stderr.split())
        heavy = {
            *(
                "argparse",
                "http",
                "socket",
                "ssl",
                "email",
                "logging",
                "inspect",
                "typing",
                "dataclasses",
                "datetime",
            ),
            *(
                "urllib",
                "ipaddress",
                "ctypes",
                "subprocess",
                "msgspec",
                "asyncio",
                "tempfile",
                "textwrap",
                "shutil",
            ),
            *("cnm.wire", "cnm.network", "cnm.cli.template", "cnm.cli.usage", "cnm.cli.namespace"),
        }
        assert loaded & heavy == set()
        assert len([name for name in loaded if not name.startswith("cnm")]) <= 40, sorted(loaded)

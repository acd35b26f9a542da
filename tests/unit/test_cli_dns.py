"""`cnmctl dns`: names beside those of sandboxes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cnm.cli.main import main
from tests.unit.cli_daemon import FakeDaemon, fake_daemon


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    with fake_daemon() as made:
        monkeypatch.setenv("CNM_HOST", f"unix://{made.socket}")
        yield made


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `cnmctl WORDS`."""
    code = main(words)
    out, err = capsys.readouterr()
    return code, out, err


RECORDS = [
    {"Name": "out", "Type": "CNAME", "Value": "example.com"},
    {"Name": "api", "Type": "A", "Value": "192.0.2.7"},
    {"Name": "api", "Type": "AAAA", "Value": "2001:db8::7"},
]


def test_add_prints_the_name(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answers("POST", "/cnm/v1/networks/web/dns", RECORDS[1], status=201)

    assert said(capsys, "dns", "add", "web", "API", "192.0.2.7") == (0, "api\n", "")
    assert daemon.requests[0].body == {"Name": "API", "Value": "192.0.2.7"}


def test_ls_shows_what_was_added(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answers("GET", "/cnm/v1/networks/web/dns", RECORDS)

    code, output, _ = said(capsys, "dns", "ls", "web")

    assert code == 0
    assert [line.split() for line in output.splitlines()] == [
        ["NAME", "TYPE", "VALUE"],
        ["api", "A", "192.0.2.7"],
        ["api", "AAAA", "2001:db8::7"],
        ["out", "CNAME", "example.com"],
    ]


def test_ls_quiet_shows_each_name_once(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answers("GET", "/cnm/v1/networks/web/dns", RECORDS)

    assert said(capsys, "dns", "ls", "-q", "web") == (0, "api\nout\n", "")


@pytest.mark.parametrize(("value", "query"), [((), {}), (("192.0.2.7",), {"value": "192.0.2.7"})])
def test_rm_takes_a_name_or_one_of_its_values(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], value: tuple[str, ...], query: dict[str, str]
) -> None:
    daemon.answers("DELETE", "/cnm/v1/networks/web/dns/%2A.shop", None, status=204)

    assert said(capsys, "dns", "rm", "web", "*.shop", *value) == (0, "*.shop\n", "")
    assert daemon.requests[0].query == query

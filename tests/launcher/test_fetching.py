"""Files come from web servers with TLS too, where their certificates prove who they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.errors import CnmError, InvalidParameter
from cnm.launcher.fetching import checked, fetching
from netns_fixtures import Host, Topology
from tests.support.certificates import Authority
from tests.support.web_server import Asked, web_server

_URL = "https://127.0.0.1:8443/file"
_CONTENT = b"content" * 100_000


def _answer(asked: Asked) -> None:
    asked.answer(200, _CONTENT, "application/octet-stream")


@pytest.fixture
def host() -> Iterator[Host]:
    with Topology({"hosts": {"host": {}}}) as topology:
        yield topology.hosts["host"]


def test_a_file_comes_from_a_server_that_is_trusted(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", authority.cert)
    with web_server(host, 8443, _answer, authority.certify("web")), host.enter(), fetching(_URL) as found:
        content = b"".join(found.pieces)

    assert (found.size, content) == (len(_CONTENT), _CONTENT)


def test_a_server_that_nobody_vouches_for_is_refused(host: Host, tmp_path: Path) -> None:
    certificate = Authority(tmp_path).certify("web")
    with (
        web_server(host, 8443, _answer, certificate),
        host.enter(),
        pytest.raises(CnmError, match="certificate verify failed"),
        fetching(_URL),
    ):
        pass


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_only_the_web_is_asked(url: str) -> None:
    with pytest.raises(InvalidParameter, match="unsupported protocol scheme"):
        checked(url)


def test_nobody_is_sent_on_to_a_file(host: Host) -> None:
    def answer(asked: Asked) -> None:
        asked.send_response(302)
        asked.send_header("Location", "file:///etc/passwd")
        asked.end_headers()

    with (
        web_server(host, 8000, answer),
        host.enter(),
        pytest.raises(CnmError, match="file:///etc/passwd"),
        fetching("http://127.0.0.1:8000/x"),
    ):
        pass

"""A plugin behind TLS: trusted by its CA, knowing us by our certificate."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from cnm.wire.plugin_client import PluginRefused, Plugins
from cnm.wire.plugin_discovery import Places
from tests.support.clocks import FakeClock

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.dumps({"Implements": [self.headers["Host"]]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that is its own CA, and one of somebody else's."""
    place = tmp_path_factory.mktemp("keys")
    for name in ("ours", "others"):
        command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -addext"
        files = ["-keyout", f"{place}/{name}.key", "-out", f"{place}/{name}.pem"]
        subprocess.run(
            [*command.split(), "subjectAltName=IP:127.0.0.1", *files], check=True, capture_output=True
        )
    return place


@pytest.fixture
def port(keys: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(keys / "ours.pem", keys / "ours.key")
    context.load_verify_locations(keys / "ours.pem")
    context.verify_mode = ssl.CERT_OPTIONAL
    server = HTTPServer(("127.0.0.1", 0), _Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def plugins(place: Path, port: int, **tls: object) -> Plugins:
    description = {"Addr": f"https://127.0.0.1:{port}", "TLSConfig": tls or None}
    (place / "x.json").write_text(json.dumps(description))
    return Plugins(Places(socket_dirs=(), spec_dirs=(str(place),)), FakeClock())


def test_a_plugin_is_trusted_by_its_ca(tmp_path: Path, keys: Path, port: int) -> None:
    made = plugins(tmp_path, port, CAFile=f"{keys}/ours.pem")

    assert made.get("x", f"127.0.0.1:{port}").name == "x"


def test_we_show_our_certificate(tmp_path: Path, keys: Path, port: int) -> None:
    files = {"CAFile": f"{keys}/ours.pem", "CertFile": f"{keys}/ours.pem", "KeyFile": f"{keys}/ours.key"}

    assert plugins(tmp_path, port, **files).get("x", f"127.0.0.1:{port}").name == "x"


def test_without_a_ca_nothing_is_verified(tmp_path: Path, port: int) -> None:
    assert plugins(tmp_path, port).get("x", f"127.0.0.1:{port}").name == "x"


def test_another_ca_is_refused_at_once(tmp_path: Path, keys: Path, port: int) -> None:
    with pytest.raises(PluginRefused, match=r"plugin x: Plugin\.Activate: TLS: self-signed certificate"):
        plugins(tmp_path, port, CAFile=f"{keys}/others.pem").get("x", "NetworkDriver")


def test_another_ca_is_accepted_where_verification_is_off(tmp_path: Path, keys: Path, port: int) -> None:
    made = plugins(tmp_path, port, CAFile=f"{keys}/others.pem", InsecureSkipVerify=True)

    assert made.get("x", f"127.0.0.1:{port}").name == "x"


def test_a_file_that_is_not_there_is_named(tmp_path: Path, keys: Path, port: int) -> None:
    with pytest.raises(
        PluginRefused, match=r"TLS files of .*x\.json cannot be used \(/nowhere\.pem\): no such"
    ):
        plugins(tmp_path, port, CAFile="/nowhere.pem").get("x", "NetworkDriver")

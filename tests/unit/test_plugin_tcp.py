"""Plugins over TCP: what is wrong in the settings is named, and dockerd is told where and how to ask."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnm import daemon
from cnm.config import PluginTcp, Settings
from cnm.errors import InvalidParameter
from cnm.plugin import discovery, tcp
from tests.support.certificates import Authority

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")

Make = Callable[..., Settings]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def ca(place: Path) -> Authority:
    return Authority(place)


@pytest.fixture(scope="module")
def settings(ca: Authority) -> Make:
    """Sound settings, some of [plugin-tcp] exchanged."""
    server, client = ca.certify("server"), ca.certify("client")
    sound: dict[str, Any] = {
        "listen": {"cnm": "127.0.0.1:2471"},
        "ca": ca.cert,
        "cert": server.cert,
        "key": server.key,
        "client_cert": client.cert,
        "client_key": client.key,
    }
    return lambda **given: Settings(plugin_spec_dir="/specs", plugin_tcp=PluginTcp(**(sound | given)))


def test_sound_settings_pass(settings: Make) -> None:
    tcp.check(settings())
    tcp.check(settings(listen={"cnm": "0.0.0.0:2471", "cnm-macvlan": "0.0.0.0:2472"}))
    tcp.check(Settings())


@pytest.mark.parametrize(
    ("listen", "words"),
    [
        (
            {"cmn": "127.0.0.1:1"},
            "there is no plugin 'cmn': cnm, cnm-overlay, cnm-macvlan, cnm-ipvlan are served",
        ),
        ({"cnm": "127.0.0.1"}, "'127.0.0.1' is not an address with a port"),
        ({"cnm": ":2471"}, "':2471' is not an address with a port"),
        ({"cnm": "127.0.0.1:0"}, "is not an address with a port"),
        ({"cnm": "127.0.0.1:70000"}, "is not an address with a port"),
        ({"cnm": "::1:2471"}, "'::1:2471' is not an address with a port"),
        ({"cnm": "localhost:2471"}, "'localhost:2471' is not an address with a port"),
        ({"cnm": "127.0.0.1:1", "cnm-ipvlan": "127.0.0.1:1"}, "cannot both listen on 127.0.0.1:1"),
    ],
)
def test_a_wrong_address_is_named(settings: Make, listen: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^plugin-tcp: ") as refusal:
        tcp.check(settings(listen=listen))

    assert words in str(refusal.value)


@pytest.mark.parametrize("which", ["ca", "cert", "key", "client_cert", "client_key"])
def test_a_file_that_is_missing_or_not_given_is_named(settings: Make, which: str) -> None:
    shown = which.replace("_", "-")

    with pytest.raises(InvalidParameter, match=f"^plugin-tcp: {shown} /nowhere: no such file or directory$"):
        tcp.check(settings(**{which: "/nowhere"}))
    with pytest.raises(InvalidParameter, match=rf"^plugin-tcp: {shown} is not given$"):
        tcp.check(settings(**{which: ""}))


def test_a_file_that_is_no_certificate_is_named(settings: Make, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello\n")

    with pytest.raises(InvalidParameter, match=f"ca {tmp_path}/text is no certificate in PEM"):
        tcp.check(settings(ca=f"{tmp_path}/text"))


def test_a_certificate_for_another_address_is_named(settings: Make) -> None:
    with pytest.raises(InvalidParameter, match=r"cert .*server.pem: IP address mismatch"):
        tcp.check(settings(listen={"cnm": "[::1]:2471"}))


def test_a_certificate_that_is_over_is_named(settings: Make, ca: Authority) -> None:
    late = ca.certify("late", days=-1)

    with pytest.raises(InvalidParameter, match=r"cert .*late.pem: certificate has expired"):
        tcp.check(settings(cert=late.cert, key=late.key))
    with pytest.raises(InvalidParameter, match=r"client-cert .*late.pem: certificate has expired"):
        tcp.check(settings(client_cert=late.cert, client_key=late.key))


def test_a_client_certificate_of_another_authority_is_named(settings: Make, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "elsewhere").certify("client")

    with pytest.raises(InvalidParameter, match=r"client-cert .*client.pem: unable to get local issuer"):
        tcp.check(settings(client_cert=stranger.cert, client_key=stranger.key))


def test_check_config_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.toml"
    files = "".join(f'{key} = "/nowhere/{key}.pem"\n' for key in ("ca", "cert", "key"))
    config.write_text(f'[plugin-tcp]\nlisten = {{ cnm = "127.0.0.1:2471" }}\n{files}')

    assert daemon.main(["--config", str(config), "--check-config"]) == 1
    assert capsys.readouterr().err == (
        f"cnmd: {config}: plugin-tcp: ca /nowhere/ca.pem: no such file or directory\n"
    )


def test_a_plugin_over_tcp_is_described_with_dockerds_certificate(settings: Make, tmp_path: Path) -> None:
    made = settings(listen={"cnm": "0.0.0.0:2471"})
    assert made.plugin_tcp is not None
    (tmp_path / "cnm.spec").write_text("unix:///of/an/earlier/start\n")

    discovery.write("cnm", _in(made, tmp_path))

    assert json.loads((tmp_path / "cnm.json").read_text()) == {
        "Name": "cnm",
        "Addr": "https://127.0.0.1:2471",
        "TLSConfig": {
            "InsecureSkipVerify": False,
            "CAFile": made.plugin_tcp.ca,
            "CertFile": made.plugin_tcp.client_cert,
            "KeyFile": made.plugin_tcp.client_key,
        },
    }
    assert [path.name for path in tmp_path.iterdir()] == ["cnm.json"]


def test_a_plugin_that_is_not_over_tcp_is_described_by_its_sockets_url(
    settings: Make, tmp_path: Path
) -> None:
    (tmp_path / "cnm-macvlan.json").write_text("{}")

    discovery.write("cnm-macvlan", _in(settings(), tmp_path))

    assert (tmp_path / "cnm-macvlan.spec").read_text() == "unix:///run/docker/plugins/cnm-macvlan.sock\n"
    assert [path.name for path in tmp_path.iterdir()] == ["cnm-macvlan.spec"]


def _in(made: Settings, place: Path) -> Settings:
    return Settings(plugin_spec_dir=str(place), plugin_tcp=made.plugin_tcp)

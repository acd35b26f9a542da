"""Plugins are found by name as Docker finds them, and a daemon does not find itself."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from cnm.errors import InvalidParameter, NotFound
from cnm.wire.plugin_discovery import Places, PluginAddress, Tls, locate, scan


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("run", "etc", "lib"):
        (tmp_path / name).mkdir()
    return tmp_path


def places(place: Path, *own: Path) -> Places:
    return Places(
        socket_dirs=(str(place / "run"),),
        spec_dirs=(str(place / "etc"), str(place / "lib")),
        own_sockets=tuple(map(str, own)),
    )


def socket_at(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


ORDER = [
    *("run/x.sock", "run/x/x.sock"),
    *("etc/x.spec", "etc/x/x.spec", "etc/x.json", "etc/x/x.json"),
    *("lib/x.spec", "lib/x/x.spec", "lib/x.json", "lib/x/x.json"),
]


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_the_first_in_dockers_order_wins(place: Path, first: int) -> None:
    for name in ORDER[first:]:
        if name.endswith(".sock"):
            socket_at(place / name)
        else:
            url = f"tcp://{name.replace('/', '-')}:9000"
            write(place / name, json.dumps({"Addr": url}) if name.endswith(".json") else url)

    found = locate("x", places(place))

    assert found.source == str(place / ORDER[first])


def test_a_name_that_nothing_has_is_not_found_and_the_directories_are_named(place: Path) -> None:
    with pytest.raises(NotFound, match=f"plugin x not found: .*{place}/run, {place}/etc, {place}/lib"):
        locate("x", places(place))


@pytest.mark.parametrize("name", ["", "../run/x", "a/b", ".", "a b", "-x"])
def test_what_is_no_name_is_not_found(place: Path, name: str) -> None:
    socket_at(place / "run" / "x.sock")
    with pytest.raises(NotFound, match="no plugin's name"):
        locate(name, places(place))


def test_a_file_where_a_socket_should_be_is_passed_over(place: Path) -> None:
    write(place / "run" / "x.sock", "")
    write(place / "etc" / "x.spec", "unix:///there.sock")

    assert locate("x", places(place)).path == "/there.sock"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("unix:///run/x.sock\n", "unix:///run/x.sock"),
        ("  tcp://192.0.2.1:9000  ", "tcp://192.0.2.1:9000"),
        ("http://plugin.example:8080/", "http://plugin.example:8080"),
        ("https://[2001:db8::1]:9000", "https://2001:db8::1:9000"),
        ("http://plugin.example", "http://plugin.example:80"),
        ("https://plugin.example", "https://plugin.example:443"),
    ],
)
def test_a_spec_is_an_address(place: Path, text: str, url: str) -> None:
    write(place / "etc" / "x.spec", text)

    found = locate("x", places(place))

    assert found.url == url
    assert found.tls == Tls(insecure_skip_verify=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ftp://192.0.2.1", "Unknown protocol 'ftp'"),
        ("/run/x.sock", "Unknown protocol ''"),
        ("", "Unknown protocol ''"),
        ("unix://", "names no socket"),
        ("tcp://:9000", "names no host"),
        ("tcp://host:port", "is no address"),
    ],
)
def test_a_spec_that_is_none_is_refused_by_its_path(place: Path, text: str, words: str) -> None:
    write(place / "etc" / "x.spec", text)

    with pytest.raises(InvalidParameter, match=words) as refusal:
        locate("x", places(place))

    assert f"{place}/etc/x.spec" in str(refusal.value)


@pytest.mark.parametrize(
    ("config", "tls"),
    [
        (None, Tls(insecure_skip_verify=True)),
        ({}, Tls(insecure_skip_verify=True)),
        ({"InsecureSkipVerify": False}, Tls(insecure_skip_verify=True)),
        ({"CAFile": "/ca"}, Tls(ca_file="/ca")),
        ({"CAFile": "/ca", "InsecureSkipVerify": True}, Tls(insecure_skip_verify=True, ca_file="/ca")),
        (
            {"cafile": "/ca", "CertFile": "/c", "KeyFile": "/k"},
            Tls(ca_file="/ca", cert_file="/c", key_file="/k"),
        ),
    ],
)
def test_a_json_file_says_how_to_trust(place: Path, config: object, tls: Tls) -> None:
    text = json.dumps({"Name": "other", "Addr": "https://192.0.2.1:9000", "TLSConfig": config, "More": 1})
    write(place / "etc" / "x.json", text)

    assert locate("x", places(place)) == PluginAddress(
        name="x", scheme="https", host="192.0.2.1", port=9000, tls=tls, source=f"{place}/etc/x.json"
    )


@pytest.mark.parametrize("text", ["", "[]", "{", '{"Addr": 1}'])
def test_a_json_file_that_cannot_be_read_is_refused_by_its_path(place: Path, text: str) -> None:
    write(place / "etc" / "x.json", text)

    with pytest.raises(InvalidParameter, match=rf"plugin x: {place}/etc/x\.json: invalid JSON"):
        locate("x", places(place))


def test_the_daemons_own_socket_is_refused(place: Path) -> None:
    own = place / "run" / "cnm.sock"
    socket_at(own)

    with pytest.raises(InvalidParameter, match="plugin cnm is this very cnmd"):
        locate("cnm", places(place, own))


def test_the_daemons_own_socket_is_refused_by_whatever_path(place: Path) -> None:
    own = place / "run" / "cnm.sock"
    socket_at(own)
    (place / "etc" / "link.sock").symlink_to(own)
    write(place / "etc" / "x.spec", f"unix://{place}/etc/link.sock")

    with pytest.raises(InvalidParameter, match="plugin x is this very cnmd"):
        locate("x", places(place, own))


def test_the_daemons_own_address_is_refused(place: Path) -> None:
    write(place / "etc" / "x.spec", "https://127.0.0.1:2471")
    own = Places(socket_dirs=(), spec_dirs=(str(place / "etc"),), own_addresses=("127.0.0.1:2471",))

    with pytest.raises(InvalidParameter, match=r"plugin x is this very cnmd \(https://127\.0\.0\.1:2471\)"):
        locate("x", own)


def test_a_listing_has_sockets_and_files_but_no_file_that_poses_as_a_socket(place: Path) -> None:
    own = place / "run" / "cnm.sock"
    for path in (
        own,
        place / "run" / "b.sock",
        place / "run" / "c" / "c.sock",
        place / "run" / "c" / "d.sock",
    ):
        socket_at(path)
    write(place / "run" / "file.sock", "")
    (place / "run" / "dangling.sock").symlink_to(place / "nowhere")
    write(place / "lib" / "a.spec", "tcp://192.0.2.1:1")
    write(place / "etc" / "j" / "j.json", "{}")
    write(place / "etc" / "readme.txt", "")

    assert scan(places(place, own)) == ["a", "b", "c", "j"]


def test_directories_that_do_not_exist_are_empty(tmp_path: Path) -> None:
    assert scan(places(tmp_path)) == []

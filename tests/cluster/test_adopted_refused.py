"""An etcd of somebody else's that cannot be adopted, or not as was asked: one line says why, and nothing is left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster.foreign_etcd import ForeignLab, foreign_lab
from tests.cluster.hosts import NEEDS_ETCD, eventually
from tests.support.etcd_certificates import EtcdAuthority

pytestmark = NEEDS_ETCD

URL = "https://192.0.2.4:2379"

ANSWERING = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = sys.argv[1].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *_): pass
server = http.server.HTTPServer(("192.0.2.4", 8080), Answer)
print("ready", flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[ForeignLab]:
    with foreign_lab() as lab:
        lab.etcd.etcdctl("put", "/theirs/key", "1")
        yield lab


def refused(lab: ForeignLab, *flags: str) -> str:
    """Why; nothing is left then, here or there."""
    before = lab.all_keys(), lab.users_and_roles()

    error = lab.h[1].fails("init", "--name", "h1", *flags)

    assert not lab.h[1].home.exists()
    assert lab.h[1].status()["State"] == "out"
    assert (lab.all_keys(), lab.users_and_roles()) == before
    return error


@contextmanager
def web_server(lab: ForeignLab, text: str) -> Iterator[str]:
    """The URL of something that answers all questions with `text`."""
    process = lab.h[4].net.popen([sys.executable, "-c", ANSWERING, text], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline()
        yield "http://192.0.2.4:8080"
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def test_an_authority_of_another_etcd(lab: ForeignLab) -> None:
    other = lab.etcd.place / "other-ca.pem"
    other.write_bytes(EtcdAuthority("other").pem)

    error = refused(lab, "--etcd", URL, "--cacert", str(other), *lab.tls()[4:])

    assert error.startswith(f"the certificate of {URL} is not good by the authority in {other}: ")


def test_a_certificate_of_another_authority(lab: ForeignLab) -> None:
    lab.etcd.write("stranger", EtcdAuthority("other").client("root"))

    error = refused(lab, *lab.tls("stranger"))

    assert error.startswith(f"{URL} does not accept the certificate in {lab.etcd.place / 'stranger.pem'}: ")


def test_no_certificate_where_one_is_wanted(lab: ForeignLab) -> None:
    error = refused(lab, "--etcd", URL, "--cacert", lab.ca)

    assert error == f"{URL} wants to see a certificate: give one with --cert and --key"


def test_nobody_there(lab: ForeignLab) -> None:
    error = refused(lab, "--etcd", "https://192.0.2.4:9", *lab.tls()[2:])

    assert error == "cannot reach https://192.0.2.4:9: connection refused: does etcd run there?"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<html>hello</html>", "it does not tell etcd's version at /version"),
        ('{"etcdserver": 3}', "it does not tell etcd's version at /version"),
    ],
)
def test_something_else_there(lab: ForeignLab, text: str, why: str) -> None:
    with web_server(lab, text) as url:
        assert refused(lab, "--etcd", url) == f"what listens at {url} is no etcd: {why}"


def test_https_where_there_is_none(lab: ForeignLab) -> None:
    with web_server(lab, "") as url:
        url = url.replace("http:", "https:")

        error = refused(lab, "--etcd", url, *lab.tls()[2:])

    assert error.startswith(f"what listens at {url} is no etcd: it does not speak TLS (")


def test_an_etcd_that_is_too_old(lab: ForeignLab) -> None:
    with web_server(lab, '{"etcdserver": "3.3.27", "etcdcluster": "3.3.0"}') as url:
        error = refused(lab, "--etcd", url)

    assert error == f"{url} is etcd 3.3.27: cnm needs 3.4 or newer, upgrade it"


def test_a_certificate_that_may_do_everything_is_not_handed_to_all(lab: ForeignLab) -> None:
    error = refused(lab, *lab.tls())

    path = lab.etcd.place / "root.pem"
    assert error.startswith(f"{path} may do everything in etcd, and all nodes would have it: give --ca-key, ")


def test_a_user_who_may_not_use_our_keys(lab: ForeignLab) -> None:
    lab.etcd.etcdctl("user", "add", "poor", "--no-password")

    error = refused(lab, *lab.tls("poor"))

    path = lab.etcd.place / "poor.pem"
    assert error.startswith(f"the user of {path} may not read and write keys below /cnm/v1/ in etcd: ")
    assert error.endswith("etcdctl role grant-permission ROLE --prefix readwrite /cnm/v1/")


def test_a_user_whom_etcd_does_not_know(lab: ForeignLab) -> None:
    error = refused(lab, *lab.tls("nobody"))

    path = lab.etcd.place / "nobody.pem"
    assert error == (f"etcd has no user nobody, whom {path} is for: etcdctl user add nobody --no-password")


def test_the_key_of_an_authority_that_etcd_does_not_know(lab: ForeignLab) -> None:
    unknown = EtcdAuthority("other")
    both, key = lab.etcd.place / "both.pem", lab.etcd.place / "unknown-key.pem"
    both.write_bytes(lab.etcd.authority.pem + unknown.pem)
    key.write_bytes(unknown.key_pem)

    error = refused(lab, "--etcd", URL, "--cacert", str(both), *lab.tls()[4:], "--ca-key", str(key))

    assert error.startswith(f"etcd does not accept certificates of the authority whose key {key} is: ")


def test_a_role_that_looks_like_ours(lab: ForeignLab) -> None:
    lab.etcd.etcdctl("role", "add", "node:other")
    try:
        error = refused(lab, *lab.tls(), "--ca-key", lab.ca_key)
    finally:
        lab.etcd.etcdctl("role", "delete", "node:other")

    assert error.startswith("etcd has a role node:other already, as cnm would make it: etcdctl role delete")


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--etcd", "192.0.2.4:2379"], "'192.0.2.4:2379' is no URL of etcd, as https://192.0.2.1:2379"),
        (
            ["--etcd", URL],
            "an etcd with https URLs needs --cacert, the authority of its certificates",
        ),
        (
            ["--etcd", f"{URL},http://192.0.2.4:2379"],
            "the URLs of etcd are all https, or all http",
        ),
        (
            ["--etcd", URL, "--cacert", "/nowhere"],
            "/nowhere cannot be read: no such file or directory",
        ),
        (["--etcd", URL, "--cacert", "/etc/hosts"], "/etc/hosts is no certificate in PEM"),
        (
            ["--etcd", URL, "--cacert", "/etc/hosts", "--cert", "/etc/hosts"],
            "--cert and --key are given together, or not at all",
        ),
        (
            ["--etcd", "http://192.0.2.4", "--cacert", "/etc/hosts"],
            "--cacert, --cert, --key and --ca-key are for an etcd with https URLs",
        ),
    ],
)
def test_flags_that_do_not_go_together(lab: ForeignLab, flags: list[str], error: str) -> None:
    assert refused(lab, *flags) == error


def test_an_init_that_was_killed_leaves_nothing(lab: ForeignLab) -> None:
    host = lab.h[2]
    before = lab.all_keys(), lab.users_and_roles()
    founding = subprocess.Popen(
        [
            *(sys.executable, "-m", "cnm.cli", "-H", f"unix://{host.cnmd.socket}", "cluster", "init"),
            *("--name", "h2", *lab.tls(), "--ca-key", lab.ca_key),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while "node:h2" not in lab.users_and_roles():
        assert founding.poll() is None
    host.cnmd.kill()
    founding.wait(20)

    host.start()
    state = eventually(lambda: (seen := host.status()["State"]) in ("out", "ready") and seen)
    if state == "ready":  # it was through before it was killed
        host.says("leave")

    assert not host.home.exists()
    assert (lab.all_keys(), lab.users_and_roles()) == before

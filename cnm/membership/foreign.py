"""An etcd that somebody else runs: what was said of it, and whether it is one that serves.

It is asked by plain HTTP first (`GET /version`): Python's errors name what is wrong with an address, a certificate or
another server, where gRPC's say only that it could not connect.
"""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple

from cnm.cluster import certificates
from cnm.cluster.addresses import join_port, split_port
from cnm.cluster.home import CLIENT_PORT
from cnm.errors import CnmError, InvalidParameter, Unavailable
from cnm.wire.cluster import ExistingEtcd

OLDEST = (3, 4)
"""The first version with users who have no password."""

_SECONDS = 5.0
_MAX_ANSWER = 64 * 1024


class Foreign(NamedTuple):
    """Texts are PEM, "" for what was not given; without `ca` it is asked without TLS."""

    endpoints: tuple[str, ...]
    """HOST:PORT."""
    ca: str = ""
    cert: str = ""
    key: str = ""
    ca_key: str = ""
    paths: ExistingEtcd | None = None
    """For errors."""

    @property
    def scheme(self) -> str:
        return "https" if self.ca else "http"


def read(asked: ExistingEtcd) -> Foreign:
    """Raises InvalidParameter for URLs and files that do not go together, or cannot be used."""
    schemes, endpoints = zip(*map(_url, asked.endpoints or [""]), strict=True)
    if len(set(schemes)) > 1:
        raise InvalidParameter("the URLs of etcd are all https, or all http")
    if schemes[0] == "http":
        if asked.ca or asked.cert or asked.key or asked.ca_key:
            raise InvalidParameter("--cacert, --cert, --key and --ca-key are for an etcd with https URLs")
        return Foreign(endpoints)
    if not asked.ca:
        raise InvalidParameter("an etcd with https URLs needs --cacert, the authority of its certificates")
    if bool(asked.cert) != bool(asked.key):
        raise InvalidParameter("--cert and --key are given together, or not at all")
    if asked.ca_key and not asked.cert:
        raise InvalidParameter("--ca-key needs --cert and --key, of a user who may do everything in etcd")
    found = Foreign(
        endpoints,
        ca=_file(asked.ca),
        cert=_file(asked.cert),
        key=_file(asked.key),
        ca_key=_file(asked.ca_key),
        paths=asked,
    )
    certificates.check_bundle(found.ca, asked.ca)
    if found.cert:
        certificates.check_pair(found.cert, found.key, asked.cert)
    if found.ca_key:
        certificates.of_key(found.ca, found.ca_key, asked.ca_key)
    return found


def check_serves(etcd: Foreign) -> None:
    """Ask each for its version. Raises Unavailable, InvalidParameter naming what is wrong with which."""
    for endpoint in etcd.endpoints:
        _check_version(f"{etcd.scheme}://{endpoint}", _version(etcd, endpoint))


def _url(text: str) -> tuple[str, str]:
    """(scheme, HOST:PORT)."""
    found = re.fullmatch(r"(https?)://([^/?#@]+)/?", text.strip())
    if found is None:
        raise InvalidParameter(f"{text!r} is no URL of etcd, as https://192.0.2.1:{CLIENT_PORT}")
    return found[1], join_port(*split_port(found[2], CLIENT_PORT))


def _file(path: str) -> str:
    if not path:
        return ""
    if not os.path.isabs(path):
        raise InvalidParameter(f"{path!r} is not an absolute path")
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise InvalidParameter(f"{path} cannot be read: {reason.lower()}") from None


def _version(etcd: Foreign, endpoint: str) -> object:
    """What it says of itself. Raises Unavailable, InvalidParameter."""
    url = f"{etcd.scheme}://{endpoint}"
    connection = _connect(etcd, endpoint, url)
    try:
        connection.request("GET", "/version", headers={"Host": endpoint})
        answer = connection.getresponse()
        text = answer.read(_MAX_ANSWER)
    except ssl.SSLError as error:
        raise _refused(etcd, url, error) from None
    except (OSError, HTTPException) as error:
        raise _no_etcd(url, _reason(error)) from None
    finally:
        connection.close()
    try:
        return json.loads(text)["etcdserver"] if answer.status == 200 else None
    except (ValueError, KeyError, TypeError):
        return None


def _connect(etcd: Foreign, endpoint: str, url: str) -> HTTPConnection:
    host, port = split_port(endpoint, CLIENT_PORT)
    try:
        plain = socket.create_connection((host, port), _SECONDS)
    except OSError as error:
        raise Unavailable(f"cannot reach {url}: {_reason(error)}: does etcd run there?") from None
    connection = HTTPConnection(host, port)
    connection.sock = plain
    if etcd.ca:
        try:
            connection.sock = _context(etcd).wrap_socket(plain, server_hostname=host)
        except OSError as error:
            plain.close()
            raise _refused(etcd, url, error) from None
    return connection


def _context(etcd: Foreign) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=etcd.ca)
    if etcd.paths is not None and etcd.paths.cert:
        context.load_cert_chain(etcd.paths.cert, etcd.paths.key)
    return context


def _refused(etcd: Foreign, url: str, error: OSError) -> CnmError:
    paths = etcd.paths
    if isinstance(error, ssl.SSLCertVerificationError) and paths is not None:
        said = error.verify_message.rstrip(".")
        return InvalidParameter(
            f"the certificate of {url} is not good by the authority in {paths.ca}: {said[:1].lower()}{said[1:]}"
        )
    if isinstance(error, ssl.SSLError) and "CERTIFICATE" in (error.reason or "") and paths is not None:
        if not paths.cert:
            return InvalidParameter(f"{url} wants to see a certificate: give one with --cert and --key")
        return InvalidParameter(
            f"{url} does not accept the certificate in {paths.cert}: is it of an authority in its --trusted-ca-file?"
        )
    return _no_etcd(url, f"it does not speak TLS ({_reason(error)})")


def _no_etcd(url: str, why: str) -> Unavailable:
    return Unavailable(f"what listens at {url} is no etcd: {why}")


def _check_version(url: str, said: object) -> None:
    found = re.match(r"([0-9]+)\.([0-9]+)", said) if isinstance(said, str) else None
    if found is None:
        raise _no_etcd(url, "it does not tell etcd's version at /version")
    if (int(found[1]), int(found[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise InvalidParameter(f"{url} is etcd {said}: cnm needs {oldest} or newer, upgrade it")


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError) and error.reason:
        return str(error.reason).replace("_", " ").lower()
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.lower().split())[:200]


def url_list(etcd: Foreign) -> str:
    return ", ".join(f"{etcd.scheme}://{each}" for each in etcd.endpoints)

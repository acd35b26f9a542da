"""Registries that are not to be believed: in their certificates, their manifests and their images' settings."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from netns_fixtures import Host
from tests.support import launcher as lab
from tests.support import registry as registries
from tests.support.launcher import Launcher
from tests.support.registry import PASSWORD, USER, Registry
from tests.support.registry_images import Put, layer, put_image
from tests.support.unpacked import lacking

_UNKNOWN = "x509: certificate signed by unknown authority"
_PORTS = {"unknown": 5443, "named": 5444, "expired": 5445, "another's": 5446}
_PLAIN_PORT = 5000
_SETTINGS = f'insecure-registries = ["127.0.0.1:{_PORTS["named"]}", "127.0.0.1:{_PLAIN_PORT}"]'


@dataclass
class Stage:
    """A launcher, registries by what is wrong with them, and one without TLS that is named as such."""

    launcher: Launcher
    registries: dict[str, Registry]
    plain: Registry
    host: Host

    def name(self, registry: str, image: str = "team/app:1") -> str:
        return f"{self.registries[registry].name}/{image}"

    def put(self, image: str) -> Put:
        return put_image(self.host, self.plain, image, "1", [layer("f", image.encode())])

    def plain_name(self, image: str) -> str:
        return f"{self.plain.name}/{image}"

    def fails(self, *words: str, given: str = "") -> str:
        """The last line of what the docker CLI complains of."""
        return self.launcher.fails(*words, given=given)[1].splitlines()[-1]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    if reason := lacking(*lab.PROGRAMS, *registries.PROGRAMS):
        pytest.skip(reason)
    more: dict[str, dict[str, Any]] = {
        "unknown": {"is_trusted": False},
        "named": {"is_trusted": False},
        "expired": {"certified": {"days": -1}},
        "another's": {"certified": {"address": "127.0.0.9"}},
    }
    with (
        tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder,
        lab.running(Path(folder), config=_SETTINGS) as launcher,
        ExitStack() as stack,
    ):
        host = getattr(launcher.cnmd.popen, "__self__")  # noqa: B009 - it is some host's `popen`
        running = {
            what: stack.enter_context(
                registries.running(Path(folder, what), host.popen, port=port, **more[what])
            )
            for what, port in _PORTS.items()
        }
        plain = registries.running(Path(folder, "plain"), host.popen, port=_PLAIN_PORT, is_plain=True)
        yield Stage(launcher, running, stack.enter_context(plain), host)


# Certificates


@pytest.mark.parametrize(
    ("which", "reason"),
    [
        ("unknown", _UNKNOWN),
        ("expired", "x509: certificate has expired or is not yet valid"),
        ("another's", "x509: certificate is valid for 127.0.0.9, not 127.0.0.1"),
    ],
)
@pytest.mark.parametrize("verb", ["pull", "push", "login", "search"])
def test_a_certificate_that_proves_nothing_is_refused(
    stage: Stage, which: str, reason: str, verb: str
) -> None:
    name, registry = stage.name(which), stage.registries[which].name
    stage.launcher.docker("tag", "busybox", name)
    words = {
        "pull": ("pull", name),
        "push": ("push", name),
        "login": ("login", "-u", USER, "--password-stdin", registry),
        "search": ("search", f"{registry}/app"),
    }[verb]

    said = stage.fails(*words, given=PASSWORD)

    beginning = "" if verb == "push" else "Error response from daemon: "
    assert said.startswith(f'{beginning}Get "https://{registry}/v2/": {reason}'), said


def test_a_registry_that_is_named_insecure_need_not_prove_anything(stage: Stage, tmp_path: Path) -> None:
    name, registry = stage.name("named"), stage.registries["named"].name

    def docker(*words: str, given: str = "") -> str:
        return stage.launcher.docker("--config", str(tmp_path), *words, given=given)

    assert "Login Succeeded" in docker("login", "-u", USER, "--password-stdin", registry, given=PASSWORD)
    docker("tag", "busybox", name)
    assert "digest: sha256:" in docker("push", name)
    docker("rmi", name)
    assert "Status: " in docker("pull", name)
    assert "team/app" in docker("search", f"{registry}/app")


# What the registry says is not what was asked for


def test_a_manifest_that_is_not_its_digest_is_refused(stage: Stage) -> None:
    put, other = stage.put("swapped"), stage.put("other")
    blob = stage.plain.blob(put.digest)
    sound = blob.read_bytes()
    blob.write_bytes(stage.plain.blob(other.digest).read_bytes())
    name = f"{stage.plain_name('swapped')}@{put.digest}"

    said = stage.fails("pull", name)

    assert said == f"Error response from daemon: manifest verification failed for digest {put.digest}"
    assert _there(stage, "swapped") == []
    blob.write_bytes(sound)
    assert "Downloaded newer image" in stage.launcher.docker("pull", name)
    stage.launcher.docker("rmi", name)


def test_a_manifest_that_is_none_is_refused(stage: Stage) -> None:
    put = stage.put("garbled")
    blob = stage.plain.blob(put.digest)
    sound = blob.read_bytes()
    blob.write_bytes(sound[: len(sound) // 2])

    said = stage.fails("pull", stage.plain_name("garbled:1"))

    assert "podman" not in said
    assert _there(stage, "garbled") == []
    blob.write_bytes(sound)
    assert "Downloaded newer image" in stage.launcher.docker("pull", stage.plain_name("garbled:1"))
    stage.launcher.docker("rmi", stage.plain_name("garbled:1"))


def test_settings_of_an_image_that_are_not_their_digest_are_refused(stage: Stage) -> None:
    put = stage.put("set")
    blob = stage.plain.blob(put.id)
    sound = blob.read_bytes()
    blob.write_bytes(json.dumps({**json.loads(sound), "config": {"Cmd": ["evil"]}}).encode())

    said = stage.fails("pull", stage.plain_name("set:1"))

    assert "image config verification failed for digest " + put.id in said
    assert _there(stage, "set") == []
    blob.write_bytes(sound)
    assert "Downloaded newer image" in stage.launcher.docker("pull", stage.plain_name("set:1"))
    stage.launcher.docker("rmi", stage.plain_name("set:1"))


def _there(stage: Stage, image: str) -> list[str]:
    return stage.launcher.docker("images", "-q", stage.plain_name(image)).split()

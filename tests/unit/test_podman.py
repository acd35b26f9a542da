"""podman that hangs, or cannot be run: told as an error, and not waited for without end."""

from __future__ import annotations

import os
import resource
import tomllib
from pathlib import Path

import pytest

from cnm.errors import CnmError, InvalidParameter
from cnm.launcher import podman
from cnm.launcher.podman import Podman, failure, last_words
from cnm.launcher.programs import Programs


def _podman(place: Path, script: str) -> Podman:
    program = place / "podman"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    made = Podman(str(place / "root"), str(place / "run"), Programs(podman=str(program)), str(place))
    made.settle()
    return made


def test_one_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(podman, "_TAKES_AT_MOST", 0.2)
    hanging = _podman(tmp_path, f"echo $$ >{tmp_path}/pid; exec sleep 1000")

    with pytest.raises(CnmError, match=r"podman tag did not end within 0\.2 s, and was killed"):
        hanging.run("tag", "a", "b")

    assert not os.path.exists(f"/proc/{(tmp_path / 'pid').read_text().strip()}")


def test_one_that_cannot_be_run_says_why(tmp_path: Path) -> None:
    broken = _podman(tmp_path, "")
    (tmp_path / "podman").write_text("#!/no/such/shell\n")

    with pytest.raises(CnmError, match=r"podman tag cannot be run: No such file or directory"):
        broken.run("tag", "a", "b")


_TRIED = """\
Error: payload does not match any of the supported image formats:
 * oci: initializing source oci:/x:: open /x/index.json: not a directory
 * oci-archive: {oci}
 * docker-archive: {docker}
 * dir: open /x/manifest.json: not a directory
"""


@pytest.mark.parametrize(
    ("oci", "docker", "words"),
    [
        (
            "loading index: open /y/index.json: no such file or directory",
            "writing blob: no space left on device",
            "writing blob: no space left on device",
        ),
        (
            "parsing image configuration: digest a does not match expected b",
            "loading tar component manifest.json: file does not exist",
            "parsing image configuration: digest a does not match expected b",
        ),
        ("untarring file: unexpected EOF", "loading tar: unexpected EOF", "loading tar: unexpected EOF"),
    ],
)
def test_what_is_wrong_with_an_archive_is_told_of_the_format_that_it_has(
    oci: str, docker: str, words: str
) -> None:
    assert last_words(_TRIED.format(oci=oci, docker=docker)) == words


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "writing blob: happened during read: Digest did not match, expected sha256:a, got sha256:b",
            'invalid diffID for a layer: expected "sha256:a", got "sha256:b"',
        ),
        (
            "determining manifest MIME type for x: Inconsistent layer count: 1 in manifest, 2 in config",
            "invalid manifest, layers length mismatch: expected 2, got 1",
        ),
    ],
)
def test_a_damaged_archive_is_told_of_in_dockers_words(said: str, words: str) -> None:
    assert str(failure("load", said)) == words


def test_what_podman_5_calls_otherwise_is_told_alike() -> None:
    refused = (
        'Error: pinging r.test: Get "https://r.test/v2/": tls: failed to verify certificate: x509: expired\n'
    )

    assert last_words(refused) == 'pinging r.test: Get "https://r.test/v2/": x509: expired'
    error = failure("pull", "exhausting input failed (error: unexpected EOF)")
    assert isinstance(error, InvalidParameter)
    assert str(error) == "Error processing tar file: unexpected EOF"


def test_databases_of_podman_do_not_outlive_a_start(tmp_path: Path) -> None:
    store = tmp_path / "root"
    (store / "libpod").mkdir(parents=True)
    for name in ("libpod/bolt_state.db", "db.sql", "db.sql-journal", "kept.json"):
        (store / name).touch()

    _podman(tmp_path, "")

    assert os.listdir(store) == ["kept.json"]


def test_steps_of_builds_have_no_more_than_the_launcher_and_podman(tmp_path: Path) -> None:
    """podman 4 lowers its own limits to as many as there may be processes."""
    _podman(tmp_path, "")

    settings = tomllib.loads((tmp_path / "run" / "settings" / "containers.conf").read_text())["containers"]

    most = int(Path("/proc/sys/kernel/pid_max").read_text())
    for name, limit in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        own = (
            most if each == resource.RLIM_INFINITY else min(each, most) for each in resource.getrlimit(limit)
        )
        assert f"{name}={':'.join(map(str, own))}" in settings["default_ulimits"]
    assert len(settings["default_capabilities"]) == 14

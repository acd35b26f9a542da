"""What a client asks of a build: what is refused before anything is done, and what is read of its context."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cnm.errors import InvalidParameter, NotBuilt
from cnm.launcher.building.build import no_file
from cnm.launcher.building.context import Context
from cnm.launcher.building.request import read


def test_names_of_hosts_are_refused_in_a_network_that_is_another_container_s() -> None:
    with pytest.raises(InvalidParameter, match="custom host-to-IP mapping and the network mode"):
        read({"networkmode": "container:web"}, {"extrahosts": ["db:10.0.0.1"]})

    assert read({"networkmode": "none"}, {"extrahosts": ["db:10.0.0.1"]}).extra_hosts == ("db:10.0.0.1",)


def test_buildkit_is_refused_with_what_to_do() -> None:
    with pytest.raises(NotBuilt, match="DOCKER_BUILDKIT=0"):
        read({"version": "2"}, {})


def test_ignored_files_may_be_named_in_any_encoding(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / ".dockerignore").write_bytes(b"\xef\xbb\xbfDockerfile\ncaf\xe9\n")

    assert Context(str(tmp_path)).dockerfile("Dockerfile") == "FROM scratch\n"
    assert os.listdir(tmp_path) == [".dockerignore"]


def test_a_dockerfile_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_bytes(b"FROM caf\xe9\n")

    with pytest.raises(InvalidParameter, match="is no text"):
        Context(str(tmp_path)).dockerfile("Dockerfile")


def test_a_call_that_knows_no_path_does_not_name_one() -> None:
    assert str(no_file(OSError(errno.ENOSPC, "No space left on device"))) == "no space left on device"
    assert (
        str(no_file(OSError(errno.ENOSPC, "No space left on device", "/a"))) == "/a: no space left on device"
    )

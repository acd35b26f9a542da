"""Names of images, by Docker's rules."""

from __future__ import annotations

import pytest

from cnm.errors import InvalidParameter
from cnm.launcher.references import familiar, identifier, normalised, parse

_DIGEST = f"sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("written", "full", "shown"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("team/app:v1", "docker.io/team/app:v1", "team/app:v1"),
        ("library/team/app", "docker.io/library/team/app:latest", "library/team/app:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app:x", "localhost:5000/app:x", "localhost:5000/app:x"),
        ("registry.example/a/b/c", "registry.example/a/b/c:latest", "registry.example/a/b/c:latest"),
        (f"busybox@{_DIGEST}", f"docker.io/library/busybox@{_DIGEST}", f"busybox@{_DIGEST}"),
        (f"busybox:1@{_DIGEST}", f"docker.io/library/busybox:1@{_DIGEST}", f"busybox:1@{_DIGEST}"),
        ("a__b--c.d_e", "docker.io/library/a__b--c.d_e:latest", "a__b--c.d_e:latest"),
    ],
)
def test_a_name_is_completed_and_shortened(written: str, full: str, shown: str) -> None:
    assert normalised(written) == full
    assert familiar(full) == shown


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("", "invalid reference format"),
        ("-x", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("a:", "invalid reference format"),
        ("a:b:c", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a/", "invalid reference format"),
        ("a..b", "invalid reference format"),
        ("a:.tag", "invalid reference format"),
        (f"a:{'t' * 129}", "invalid reference format"),
        ("a\n", "invalid reference format"),
        ("a@sha256:abc", "invalid reference format"),
        ("Busybox", "invalid reference format: repository name must be lowercase"),
        ("localhost/Team/app", "invalid reference format: repository name must be lowercase"),
        ("a" * 64, f"invalid repository name ({'a' * 64}), cannot specify 64-byte hexadecimal strings"),
        ("a/" * 120 + "a" * 30, "repository name must not be more than 255 characters"),
        (f"a@md5:{'a' * 32}", "unsupported digest algorithm"),
        (f"a@sha256:{'a' * 40}", "invalid checksum digest length"),
        (f"a@sha256:{'A' * 64}", "invalid checksum digest format"),
    ],
)
def test_what_is_no_name_is_refused(written: str, problem: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        parse(written)

    assert str(refused.value) == problem


def test_only_a_whole_id_is_one() -> None:
    assert identifier("b" * 64) == identifier(f"sha256:{'b' * 64}") == f"sha256:{'b' * 64}"
    assert identifier("b" * 12) == identifier("sha256:b") == identifier("busybox") == ""

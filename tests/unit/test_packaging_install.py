"""`packaging/install` puts files where systemd and its neighbours look, twice as well as once, and takes them away."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_VENV = Path(sys.prefix)

pytestmark = pytest.mark.skipif(
    not (_VENV / "bin/cnmd").exists() or not shutil.which("ldconfig"),
    reason="cnmd is not installed in this environment",
)


def _install(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "DESTDIR": str(place)}
    return subprocess.run(
        [str(_ROOT / "packaging/install"), *arguments], env=environment, capture_output=True, text=True
    )


def _files(place: Path) -> set[str]:
    return {str(path.relative_to(place)) for path in place.rglob("*") if not path.is_dir()}


def test_everything_is_where_it_is_looked_for(tmp_path: Path) -> None:
    done = _install(tmp_path, "--prefix", "/opt/cnm", "--venv", str(_VENV))

    assert (done.returncode, done.stderr) == (0, "")
    assert _files(tmp_path) == {
        "etc/NetworkManager/conf.d/10-cnm-unmanaged.conf",
        "etc/systemd/network/10-cnm-unmanaged.network",
        "etc/systemd/system/cnm-launcher.service",
        "etc/systemd/system/cnm-relay.service",
        "etc/systemd/system/cnm-relay.socket",
        "etc/systemd/system/cnm-resolver.service",
        "etc/systemd/system/cnm-resolver.socket",
        "etc/systemd/system/cnm-volume-snapshots.service",
        "etc/systemd/system/cnmd.service",
        "etc/systemd/system/cnmd.socket",
        "etc/sysusers.d/cnm.conf",
        "opt/cnm/bin/cnm-launcher",
        "opt/cnm/bin/cnm-relay",
        "opt/cnm/bin/cnm-resolver",
        "opt/cnm/bin/cnm-volume-snapshots",
        "opt/cnm/bin/cnmctl",
        "opt/cnm/bin/cnmd",
        "opt/cnm/share/bash-completion/completions/cnmctl",
    }


def test_the_units_start_what_was_installed(tmp_path: Path) -> None:
    _install(tmp_path, "--prefix", "/opt/cnm", "--venv", str(_VENV))

    unit = (tmp_path / "etc/systemd/system/cnmd.service").read_text()
    (started,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]

    assert started == "ExecStart=/opt/cnm/bin/cnmd"
    said = subprocess.run(
        [tmp_path / "opt/cnm/bin/cnmd", "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout.startswith("cnmd ")


def test_once_more_changes_nothing_and_uninstall_leaves_only_what_is_the_users(tmp_path: Path) -> None:
    flags = ("--prefix", "/opt/cnm", "--venv", str(_VENV))
    (tmp_path / "etc/cnm").mkdir(parents=True)
    (tmp_path / "etc/cnm/config.toml").write_text("")
    _install(tmp_path, *flags)
    before = {name: (tmp_path / name).read_bytes() for name in _files(tmp_path)}

    assert _install(tmp_path, *flags).returncode == 0
    assert {name: (tmp_path / name).read_bytes() for name in _files(tmp_path)} == before

    assert _install(tmp_path, "uninstall", *flags).returncode == 0
    assert _files(tmp_path) == {"etc/cnm/config.toml"}
    assert _install(tmp_path, "uninstall", *flags).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--prefix", "here"), 1, "--prefix here must be an absolute path"),
        (("--venv", "/nowhere"), 1, "there is no cnmd in /nowhere"),
        (("--nosuch",), 2, ""),
    ],
)
def test_wrong_flags_change_nothing(
    tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = _install(tmp_path, *arguments)

    assert done.returncode == code
    assert words in done.stderr
    assert _files(tmp_path) == set()

"""podman, for what changes the image store; it is told everything, so that nothing of the host's settings counts."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum

from cnm.errors import CnmError, InvalidParameter
from cnm.launcher import capabilities
from cnm.launcher.programs import Programs
from cnm.launcher.registries import Registries

_TAKES_AT_MOST = 3600
"""Seconds; an image of many gigabytes on a slow disk takes minutes."""
_STEERING = ("CONTAINER", "PODMAN", "STORAGE_", "BUILDAH", "REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_")
"""Beginnings of variables by which somebody's shell would lead podman elsewhere, even to another host."""
_LONGEST_RUN_ROOT = 50
"""podman refuses a longer one; it is then called by a short symlink."""

_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{root}"
runroot = "{run}"
"""
_CONTAINERS = """\
[containers]
default_sysctls = []
default_ulimits = [{limits}]
default_capabilities = [{capabilities}]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
network_cmd_path = ""
"""
# Whose images are taken is decided by who may talk to the launcher, which is root.
_POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}\n'
_POLICY_OF_HOME = ".config/containers/policy.json"
"""Where it is looked for below HOME; `podman push` takes no other."""
_BROKEN_LAYER = re.compile(
    r"(?:processing tar file\(|exhausting input failed \(error: )(.*)\)(?:$|: exit status)"
)
_DIFFERENT = re.compile(r"Digest did not match, expected (\S+), got (\S+)")
_COUNTS = re.compile(r"Inconsistent layer count: (\d+) in manifest, (\d+) in config")
_FORMAT = re.compile(r"\* (docker-archive|oci-archive): (.*)")
"""Of an archive it tries one format after another, and says what is wrong with it in each."""
_OF_OTHERS = ("file does not exist", "no such file or directory")
"""Ends of what it says of the format that an archive does not have."""
_OF_NEWER_TLS = "tls: failed to verify certificate: "
"""What Go puts before the reason since 1.20, and Docker 20.10 does not."""
_ERROR = re.compile(r'^(?:time="[^"]*" level=\w+ msg=|[A-Z]{4}\[\d+\] )?(?:Error: )?(.*)$')
"""On a terminal it logs otherwise."""


class Source(Enum):
    """Where images come from, and how many layers are read from there at a time; podman's own number is 6."""

    REGISTRY = 3
    """As many as Docker pulls (max-concurrent-downloads): with more, the first is there to be unpacked later."""
    DISK = 2
    """One is unpacked while the next is read."""

    @property
    def settings(self) -> str:
        """Name of a file."""
        return f"from-{self.name.lower()}.conf"


class Podman:
    """One store: `root` its graph root, `run` its run root; its settings are files in `run`."""

    def __init__(
        self, root: str, run: str, programs: Programs, scratch: str, registries: Registries | None = None
    ) -> None:
        """`scratch` is a directory for what is big and short-lived."""
        self._root = root
        self._place = run
        self._run = run if len(run) <= _LONGEST_RUN_ROOT else _short_name(run)
        self._programs = programs
        self._scratch = scratch
        self._settings = os.path.join(run, "settings")
        self.registries = registries or Registries()

    def settle(self) -> None:
        """Writes the settings; the run root does not outlive a boot.

        podman's own database goes, too: it knows of no containers here, and would refuse directories that have moved.
        """
        shutil.rmtree(os.path.join(self._root, "libpod"), ignore_errors=True)
        for path in glob.glob(os.path.join(glob.escape(self._root), "db.sql*")):  # podman 5's
            os.unlink(path)
        os.makedirs(os.path.join(self._settings, os.path.dirname(_POLICY_OF_HOME)), mode=0o700, exist_ok=True)
        if self._run != self._place and not os.path.lexists(self._run):
            os.symlink(self._place, self._run)
        containers = _CONTAINERS.format(
            limits=", ".join(_own_limits()),
            capabilities=", ".join(f'"{name}"' for name in capabilities.DEFAULT),
        )
        texts = {
            "storage.conf": _STORAGE.format(root=self._root, run=self._run),
            "registries.conf": self.registries.settings(),
            "containers.conf": containers,
            **{each.settings: f"{containers}image_parallel_copies = {each.value}\n" for each in Source},
            _POLICY_OF_HOME: _POLICY,
        }
        for name, text in texts.items():
            with open(os.path.join(self._settings, name), "w", encoding="utf-8") as file:
                file.write(text)

    def run(self, *arguments: str, given: str = "") -> str:
        """What it printed; `given` is its input.

        Raises CnmError in podman's words, InvalidParameter for a layer that is no sound tar.
        """
        verb = arguments[0]
        try:
            done = subprocess.run(
                self.command(*arguments),
                env=self.environment(),
                input=given,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_TAKES_AT_MOST,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CnmError(f"podman {verb} did not end within {_TAKES_AT_MOST:g} s, and was killed") from None
        except OSError as error:
            raise CnmError(f"podman {verb} cannot be run: {error.strerror}") from None
        if done.returncode != 0:
            raise failure(verb, last_words(done.stderr))
        return done.stdout.strip()

    def start(
        self, *arguments: str, options: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """A verb that is listened to while it works, in a session of its own; `options` stand before the verb."""
        return subprocess.Popen(
            self.command(*options, *arguments),
            env={**self.environment(), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def policy(self) -> str:
        """Path of the settings that say whose images are taken."""
        return os.path.join(self._settings, _POLICY_OF_HOME)

    def copying(self) -> tuple[str, ...]:
        """Options of verbs that take images in."""
        return ("--quiet",)

    def command(self, *arguments: str) -> list[str]:
        """Raises Unavailable."""
        return [
            self._programs.path("podman"),
            *("--root", self._root, "--runroot", self._run, "--storage-driver", "overlay"),
            # Otherwise it bind-mounts a directory of the store, and leaves that mount behind where it fails.
            *("--storage-opt", "overlay.skip_mount_home=true"),
            *("--tmpdir", os.path.join(self._run, "libpod"), "--events-backend", "none"),
            *("--cgroup-manager", "cgroupfs", "--log-level", "error"),
            *arguments,
        ]

    def environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in self._programs.env.items() if not key.startswith(_STEERING)}
        return {
            **inherited,
            "CONTAINERS_STORAGE_CONF": os.path.join(self._settings, "storage.conf"),
            "CONTAINERS_REGISTRIES_CONF": os.path.join(self._settings, "registries.conf"),
            "CONTAINERS_CONF": os.path.join(self._settings, "containers.conf"),
            "HOME": self._settings,
            "TMPDIR": self._scratch,
        }

    def environment_from(self, source: Source, place: str) -> dict[str, str]:
        """For taking images in; `place` is for what it writes meanwhile."""
        settings = os.path.join(self._settings, source.settings)
        return {**self.environment(), "CONTAINERS_CONF": settings, "TMPDIR": place}


def _own_limits() -> Iterator[str]:
    """For steps of builds. Newer podmans would raise them, and fail where the launcher may not.

    Older ones lower their own to as many as there may be processes, and may not raise them again either.
    """
    with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
        most = int(file.read())
    for name, limit in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        soft, hard = (
            most if each == resource.RLIM_INFINITY else min(each, most) for each in resource.getrlimit(limit)
        )
        yield f'"{name}={soft}:{hard}"'


def _short_name(run: str) -> str:
    """The same at every start, since podman remembers it."""
    return f"/run/cnm-storage-{hashlib.sha256(run.encode()).hexdigest()[:12]}"


def failure(verb: str, words: str) -> CnmError:
    """What a verb has failed with, by podman's last words; in Docker's for what is wrong with an archive."""
    if broken := _BROKEN_LAYER.search(words):
        return InvalidParameter(f"Error processing tar file: {broken[1]}")
    if verb == "load" and (found := _DIFFERENT.search(words)):
        return InvalidParameter(f'invalid diffID for a layer: expected "{found[1]}", got "{found[2]}"')
    if verb == "load" and (found := _COUNTS.search(words)):
        return InvalidParameter(
            f"invalid manifest, layers length mismatch: expected {found[2]}, got {found[1]}"
        )
    return CnmError(f"podman {verb} failed: {words}")


def last_words(errors: str) -> str:
    """Of what it wrote to standard error: why it failed."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    tried = [found[2] for line in lines if (found := _FORMAT.fullmatch(line))]
    if telling := [words for words in tried if not words.endswith(_OF_OTHERS)]:
        return telling[-1]
    found = _ERROR.match(lines[-1]) if lines else None
    return found[1].strip('"').replace(_OF_NEWER_TLS, "") if found else "it gave no reason"

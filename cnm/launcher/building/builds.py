"""Builds: a Dockerfile and its context become an image, and a client hears of it as from Docker's classic builder.

podman does the work: it caches the layers of steps that it knows, and has runc run what RUN says, in a network
namespace of ours. What else it is told, and what it says, is put in Docker's words here.
"""

from __future__ import annotations

import codecs
import contextlib
import logging
import os
import selectors
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import BinaryIO

import msgspec

from cnm.errors import CnmError
from cnm.launcher.building import dockerfile, networks, remembered
from cnm.launcher.building.complaints import BuildFailed, Complaints, failure
from cnm.launcher.building.context import Context
from cnm.launcher.building.leftovers import Folders, Leftovers, Traces, folders
from cnm.launcher.building.progress import Message, Progress, said
from cnm.launcher.building.recipe import Recipe
from cnm.launcher.building.remembered import Memory, Remembered
from cnm.launcher.building.request import BuildRequest
from cnm.launcher.image_events import ImageEvents
from cnm.launcher.image_index import digits
from cnm.launcher.parts import Parts
from cnm.launcher.requests import new_id
from cnm.launcher.seccomp import find_profile

log = logging.getLogger("cnm.launcher")

_BEAT_SECONDS = 1.0
"""Between two looks for a client that has gone."""
_PIECE = 1 << 16
_SHORT = 12


class Build(contextlib.AbstractContextManager["Build"]):
    """One: what was sent is read and found to be sound; `messages` does it, once, and `close` leaves nothing of it."""

    def __init__(self, builds: Builds, ident: str, request: BuildRequest) -> None:
        self.id = ident
        self.request = request
        self._builds = builds
        self._parts = builds.parts
        self.place: Folders = folders(builds.parts.places, ident)
        self._recipe: Recipe | None = None
        self._key = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._is_whole = True
        """Whether podman takes its own away, since nobody has cut it off."""
        self._closing = threading.Lock()
        self._is_closed = False

    def read(self, archive: BinaryIO) -> None:
        """Raises CnmError in Docker's words for a context or a Dockerfile that is wrong."""
        context = Context(self.place.context)
        context.fill(archive)
        found = dockerfile.parse(context.dockerfile(self.request.dockerfile), self.request.arguments)
        found = found.up_to(self.request.target) if self.request.target else found
        found = found.with_labels(self.request.labels)
        found.check_result()
        self._recipe = Recipe(found, self._parts.images)
        self._key = remembered.key(self._recipe, self.request, self.place.context)

    def messages(self) -> Iterator[Message | None]:
        """Docker's stream, its last message a failure where there is one; None while nothing is said."""
        assert self._recipe is not None, "it has been read"
        progress = Progress(self._recipe, self._parts.images)
        try:
            if known := self._recalled():
                yield from progress.again(known)
                yield from self._finish(known.results[-1])
                return
            yield from progress.beginning()
            yield from self._work(self._recipe, progress, Complaints(hides_copies=self.request.squash))
            with open(self._iid, encoding="ascii") as file:
                image = digits(file.read().strip())
            self._parts.images.show(f"sha256:{image}")
            yield from self._finish(image)
            self._remember(progress, image)
        except BuildFailed as error:
            yield error.message()
        except CnmError as error:
            yield failure(error)

    def _recalled(self) -> Remembered | None:
        if not self._key:
            return None
        images = {digits(image.id) for image in self._parts.images.all()}
        found = self._builds.memory.recall(self._key, images)
        return found if found and len(found.results) == self._count_of_results else None

    def _remember(self, progress: Progress, image: str) -> None:
        """Not where podman has told less than is to be told again."""
        if self._key and len(progress.made) == self._count_of_results and progress.made[-1] == image:
            made = Remembered(tuple(progress.made), tuple(progress.warnings))
            self._builds.memory.keep(self._key, made)

    @property
    def _count_of_results(self) -> int:
        assert self._recipe is not None, "it has been read"
        return self._recipe.dockerfile.steps - len(self._recipe.dockerfile.arguments)

    def _work(self, recipe: Recipe, progress: Progress, complaints: Complaints) -> Iterator[Message | None]:
        self._process = process = self._start(recipe)
        for stream, text in _heard(process):
            if not text:
                yield None
            elif stream is process.stdout:
                yield from progress.feed(text)
            else:
                yield from complaints.feed(text)
        code = process.wait()
        yield from progress.end(failed=code != 0)
        yield from complaints.end(failed=code != 0)
        if code != 0:
            stage = recipe.dockerfile.stages[progress.stage]
            image = recipe.image(progress.stage)
            raise complaints.reason(progress.step, stage, image.config.shell if image else None)
        self._is_whole = True

    def _start(self, recipe: Recipe) -> subprocess.Popen[bytes]:
        text = os.path.join(self.place.run, "Dockerfile")
        has_sandbox = recipe.runs and networks.has_sandbox(self.request.network)
        with self._closing:
            if self._is_closed:
                raise CnmError("the build was cancelled")
            self.place.note(Traces(self._cgroup, has_sandbox))
            with open(text, "w", encoding="utf-8") as file:
                file.write(recipe.text)
            network = self._network() if recipe.runs else ("--network", "none")
            self._is_whole = False
            podman = self._parts.images.podman
            return podman.start(
                *("build", *self._options(), *network, "--file", text, self.place.context),
                options=("--runtime", self._parts.programs.path("runc")),
            )

    def _network(self) -> tuple[str, ...]:
        request, parts = self.request, self._parts
        return networks.enter(
            request.network, self.id, request.extra_hosts, parts.cnmd, parts.sandboxes, self._builds.running
        )

    @property
    def _cgroup(self) -> str:
        parent = (self.request.cgroup_parent or self._builds.cgroup_parent).strip("/")
        return f"/{parent}/build-{self.id}"

    def _options(self) -> Iterator[str]:
        request = self.request
        yield from ("--format", "docker", "--isolation", "oci", "--force-rm", "--skip-unused-stages=false")
        yield from ("--signature-policy", self._parts.images.podman.policy, "--identity-label=false")
        # What is in the context was meant to be there: its sender has read .dockerignore.
        yield from ("--ignorefile", os.devnull)
        yield from ("--iidfile", self._iid, "--cgroup-parent", self._cgroup)
        yield from ("--runtime-flag", f"root={self.place.runtime}")
        yield from ("--pull=always",) if request.pull else ("--pull=missing",)
        yield "--squash" if request.squash else "--layers"
        if request.no_cache:
            yield "--no-cache"
        if request.platform:
            yield f"--platform={request.platform}"
        for name, value in request.arguments.items():
            yield f"--build-arg={name}={value}"
        if profile := find_profile(self._parts.programs.seccomp_profile):
            yield f"--security-opt=seccomp={profile}"
        if request.credentials:
            yield f"--authfile={self._write_credentials()}"
        yield from request.limits

    def _write_credentials(self) -> str:
        path = os.path.join(self.place.run, "auth.json")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            auths = {name: {"auth": text} for name, text in self.request.credentials.items()}
            file.write(msgspec.json.encode({"auths": auths}))
        return path

    @property
    def _iid(self) -> str:
        return os.path.join(self.place.run, "image")

    def _finish(self, made: str) -> Iterator[Message]:
        image, images = f"sha256:{made}", self._parts.images
        yield {"aux": {"ID": image}}
        yield said(f"Successfully built {made[:_SHORT]}\n")
        for name, familiar in zip(self.request.names, self.request.familiar_names, strict=True):
            if name not in images.find(image).names:
                images.tag(image, name)
            self._builds.events.tell_tagged(image, name)
            yield said(f"Successfully tagged {familiar}\n")

    def close(self) -> None:
        """Ends it where it goes on. Works from any thread, and twice."""
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
            process = self._process
        self._builds.forget(self)
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        try:
            self._builds.leftovers.clear(self.id, whole=self._is_whole)
        except CnmError as error:
            log.warning("build %s is not cleared away: %s", self.id[:_SHORT], error)

    def __exit__(self, *_: object) -> None:
        self.close()


class Builds:
    """Thread-safe; any number of builds at a time."""

    def __init__(
        self, parts: Parts, events: ImageEvents, cgroup_parent: str, running: Callable[[str], str]
    ) -> None:
        """`running` finds the id of a container by its name; it raises where it does not run."""
        self.parts, self.events, self.cgroup_parent, self.running = parts, events, cgroup_parent, running
        self.leftovers = Leftovers(parts.places, parts.images, parts.sandboxes)
        self.memory = Memory(parts.places.remembered_builds)
        self._going_on: dict[str, Build] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Clear away what was left by a launcher that was killed."""
        self.leftovers.sweep()

    def cnmd_is_back(self) -> None:
        """Sandboxes that could not be removed go."""
        with self._lock:
            going_on = set(self._going_on)
        self.leftovers.sweep_sandboxes(going_on)

    def close(self) -> None:
        """What goes on ends."""
        with self._lock:
            builds = list(self._going_on.values())
        for build in builds:
            build.close()

    def begin(self, request: BuildRequest, archive: BinaryIO) -> Build:
        """To be closed. Raises CnmError in Docker's words for what is wrong before the first step."""
        build = Build(self, new_id(), request)
        with self._lock:
            self._going_on[build.id] = build
        try:
            build.read(archive)
        except OSError as error:
            build.close()
            why = (error.strerror or str(error)).lower()
            raise CnmError(f"cannot lay out the build's context: {error.filename}: {why}") from None
        except BaseException:
            build.close()
            raise
        return build

    def forget(self, build: Build) -> None:
        with self._lock:
            self._going_on.pop(build.id, None)


def _heard(process: subprocess.Popen[bytes]) -> Iterator[tuple[object, str]]:
    """(stream, text) as a process says it, to its end; with "" for the text when it says nothing for a while."""
    assert process.stdout is not None
    assert process.stderr is not None
    streams = (process.stdout, process.stderr)
    decoders = {stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in streams}
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        for stream in streams:
            stack.enter_context(stream)
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(_BEAT_SECONDS)
            if not ready:
                yield None, ""
            for key, _ in ready:
                stream = process.stdout if key.fileobj is process.stdout else process.stderr
                if piece := os.read(stream.fileno(), _PIECE):
                    yield stream, decoders[stream].decode(piece)
                else:
                    selector.unregister(stream)

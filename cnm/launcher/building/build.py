"""One build: a Dockerfile and its context become an image, and a client hears of it as from Docker's classic builder.

podman does the work: it caches the layers of steps that it knows, and has runc run what RUN says, in a network
namespace of ours. What it is told, and what it says, is put in Docker's words here.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, NamedTuple

from cnm.errors import CnmError
from cnm.launcher.building import networks, options, remembered
from cnm.launcher.building.complaints import BuildFailed, Complaints, failure
from cnm.launcher.building.context import Context
from cnm.launcher.building.leftovers import VARIABLE, Leftovers, Traces, folders
from cnm.launcher.building.parsing import parse
from cnm.launcher.building.process import Process, Stream
from cnm.launcher.building.progress import Message, Progress, said
from cnm.launcher.building.recipe import Recipe
from cnm.launcher.building.remembered import Memory, Remembered
from cnm.launcher.building.request import BuildRequest
from cnm.launcher.building.sources import Sources
from cnm.launcher.disk import refusal
from cnm.launcher.image_events import ImageEvents
from cnm.launcher.image_index import digits
from cnm.launcher.limits import check_resources, settled_resources, with_defaults
from cnm.launcher.parts import Parts
from cnm.launcher.process import clean
from cnm.launcher.seccomp import find_profile

log = logging.getLogger("cnm.launcher")

_SHORT = 12


class Workshop(NamedTuple):
    """What builds are done with."""

    parts: Parts
    events: ImageEvents
    cgroup_parent: str
    running: Callable[[str], str]
    """The id of a container by its name; raises where it does not run."""
    leftovers: Leftovers
    memory: Memory


class Build:
    """One build, from what was sent to the image; when it is closed, nothing else is left of it."""

    def __init__(self, workshop: Workshop, ident: str, request: BuildRequest) -> None:
        self.id = ident
        self._request = request
        self._workshop, self._parts = workshop, workshop.parts
        self._place = folders(workshop.parts.places, ident)
        self._recipe: Recipe | None = None
        self._key = ""
        self._process: Process | None = None
        self._is_whole = True
        """Whether podman takes its own away, since nobody has cut it off."""
        self._starting, self._clearing = threading.Lock(), threading.Lock()
        self._is_closed, self._is_cleared = False, False

    def read(self, archive: BinaryIO) -> None:
        """Raises CnmError in Docker's words for a context or a Dockerfile that is wrong."""
        for path in (self._place.kept, self._place.context, self._place.scratch):
            os.mkdir(path, 0o700)
        context = Context(self._place.context)
        context.fill(archive)
        found = parse(context.dockerfile(self._request.dockerfile), self._request.arguments)
        found = found.up_to(self._request.target) if self._request.target else found
        found = found.with_labels(self._request.labels)
        found.check_result()
        self._recipe = Recipe(found, self._parts.images, pulls=self._request.pull)
        check_resources(self._request.resources, self._parts.host)
        self._key = remembered.key(self._recipe, self._request, self._place.context)

    def messages(self) -> Iterator[Message | None]:
        """Docker's stream, its last message a failure where there is one; None while nothing is said."""
        assert self._recipe is not None, "it has been read"
        progress = Progress(self._recipe, self._parts.images)
        try:
            with ExitStack() as needing:  # until the image has its last name
                if known := self._recalled(needing):
                    yield from progress.again(known)
                    yield from self._finish(known.results[-1])
                    return
                needing.enter_context(self._parts.images.needing(self._recipe.sources.values()))
                yield from progress.beginning()
                image = yield from self._made(self._recipe, progress)
                self.close()  # who hears of its end may remove the network that it was on
                yield from self._finish(image)
            self._remember(progress, image)
        except BuildFailed as error:
            yield error.message()
        except CnmError as error:
            yield failure(error)
        except OSError as error:
            yield failure(no_file(error))

    def _made(self, recipe: Recipe, progress: Progress) -> Generator[Message | None, None, str]:
        """The new image's digits."""
        with self._parts.images.adding(), self._cleared_where_it_fails():
            yield from self._work(recipe, progress)
            with open(self._place.image, encoding="ascii") as file:
                image = digits(file.read().strip())
            self._parts.images.show(f"sha256:{image}")
            return image

    @contextmanager
    def _cleared_where_it_fails(self) -> Iterator[None]:
        """podman has ended then, and holds no layers any more, so that those without an image are seen to be."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _recalled(self, needing: ExitStack) -> Remembered | None:
        """Its images are needed from then on."""
        if not self._key:
            return None
        with self._parts.images.renaming:  # nothing is pruned meanwhile
            images = {digits(image.id) for image in self._parts.images.all()}
            found = self._workshop.memory.recall(self._key, images)
            if found is None or len(found.results) != self._count_of_results:
                return None
            needing.enter_context(self._parts.images.needing([f"sha256:{each}" for each in found.results]))
            return found

    def _remember(self, progress: Progress, image: str) -> None:
        """Not where podman has told less than is to be told again. The image is made, whatever comes of this."""
        if not self._key or len(progress.made) != self._count_of_results or progress.made[-1] != image:
            return
        try:
            made = Remembered(progress.made, tuple(progress.warnings))
            self._workshop.memory.keep(self._key, made)
        except CnmError as error:
            log.warning("build %s is not remembered: %s", self.id[:_SHORT], error)

    @property
    def _count_of_results(self) -> int:
        assert self._recipe is not None, "it has been read"
        return self._recipe.dockerfile.steps - len(self._recipe.dockerfile.arguments)

    def _work(self, recipe: Recipe, progress: Progress) -> Iterator[Message | None]:
        sources = Sources(recipe, self._request, self._parts.images)
        complaints = Complaints(sources, hides_copies=self._request.squash)
        process = self._start(recipe)
        for said_it, text in process.heard():
            if not text:
                yield None
            elif said_it is Stream.OUTPUT:
                yield from progress.feed(text)
                self._parts.images.note_parents(progress.parents)
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
        sources.note()

    def _start(self, recipe: Recipe) -> Process:
        text = os.path.join(self._place.run, "Dockerfile")
        has_sandbox = recipe.runs and networks.has_sandbox(self._request.network)
        with self._starting:
            if self._is_closed:
                raise CnmError("the build was cancelled")
            self._place.note(Traces(self._cgroup, has_sandbox))
            with open(text, "w", encoding="utf-8") as file:
                file.write(recipe.text)
            network = self._network() if recipe.runs else ("--network", "none")
            self._is_whole = False
            started = self._parts.images.podman.start(
                *("build", *self._options(recipe, network), "--file", text, self._place.context),
                env={VARIABLE: self.id, "TMPDIR": self._place.scratch},
                options=("--runtime", self._parts.programs.path("runc")),
            )
            self._process = Process(started, self._parts.exits)
            return self._process

    def _network(self) -> tuple[str, ...]:
        request, parts = self._request, self._parts
        return networks.enter(
            request.network, self.id, request.extra_hosts, parts.cnmd, parts.sandboxes, self._workshop.running
        )

    @property
    def _cgroup(self) -> str:
        parent = clean(f"/{self._request.cgroup_parent or self._workshop.cgroup_parent}")
        return f"{parent.rstrip('/')}/build-{self.id}"

    def _options(self, recipe: Recipe, network: Sequence[str]) -> Iterator[str]:
        """A base that is here is what it is, whatever machine is asked for, as for Docker."""
        seccomp = find_profile(self._parts.programs.seccomp_profile)
        yield from options.of_store(self._parts.images.podman.policy)
        yield from options.of_place(self._place, self._cgroup, seccomp)
        yield from options.of_request(self._request, self._place)
        limits, _ = settled_resources(with_defaults(self._request.resources), self._parts.host)
        yield from options.of_limits(limits, self._request.shm_size)
        if self._request.platform and (recipe.may_pull or recipe.has_scratch):
            yield f"--platform={self._request.platform}"
        yield from network

    def _finish(self, made: str) -> Iterator[Message]:
        image, images = f"sha256:{made}", self._parts.images
        yield {"aux": {"ID": image}}
        yield said(f"Successfully built {made[:_SHORT]}\n")
        for name, familiar in zip(self._request.names, self._request.familiar_names, strict=True):
            if name not in images.find(image).names:
                images.tag(image, name)
            self._workshop.events.tell_tagged(image, name)
            yield said(f"Successfully tagged {familiar}\n")

    def close(self) -> None:
        """Ends it where it goes on. Works from any thread, and twice."""
        with self._starting:
            self._is_closed = True
        with self._clearing:
            if not self._is_cleared:
                self._is_cleared = True
                self._clear()

    def _clear(self) -> None:
        if self._process is not None:
            self._process.kill()
        try:
            self._workshop.leftovers.clear(self.id, whole=self._is_whole)
        except (CnmError, OSError) as error:
            log.warning("build %s is not cleared away: %s", self.id[:_SHORT], error)


def no_file(error: OSError) -> CnmError:
    """What is told of a file of a build that cannot be written or read."""
    return CnmError(refusal(error))

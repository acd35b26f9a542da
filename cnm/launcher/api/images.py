"""Images: what there is, and how they come here without a registry."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

from flask import Response

from cnm.api import filters, times
from cnm.api.routes import Routes
from cnm.errors import CnmError, NotFound
from cnm.launcher import docker_form, name_patterns, progress
from cnm.launcher.api import importing, registry
from cnm.launcher.api.calls import Call
from cnm.launcher.api.streams import endless
from cnm.launcher.image_config import Image, nanoseconds
from cnm.launcher.image_pruning import Pruning
from cnm.launcher.image_sizes import shared_sizes
from cnm.launcher.present import moment
from cnm.launcher.references import familiar
from cnm.launcher.removal import Removed
from cnm.launcher.transfer import Progress
from cnm.wire import codec
from cnm.wire.containers import Config

routes = Routes()

_PRUNE_FILTERS = frozenset({"dangling", "label", "label!", "until"})
_FILTERS = frozenset({"dangling", "label", "before", "since", "reference", "until"})
_SHARED_SINCE = (1, 42)


@routes.get(
    "/images/json",
    query={
        "all": "those too that others are made of",
        "filters": 'JSON: `{"reference": ["x"]}`',
        "shared-size": "with the bytes that each shares with others; from 1.42 on",
    },
)
def list_images(call: Call[None]) -> list[dict[str, Any]]:
    """List images."""
    return images_shown(call, shared=call.version >= _SHARED_SINCE and call.flag("shared-size"))


def images_shown(call: Call[None], *, shared: bool) -> list[dict[str, Any]]:
    """Those that a list has; `shared`: with what each has in common with others of them."""
    wanted = filters.decode(call.query.get("filters", ""), _FILTERS)
    selects = _selector(call, wanted)
    found = sorted(call.engine.parts.images.all(), key=lambda image: image.created, reverse=True)
    ids = {image.id for image in found}
    parents = set() if call.flag("all") else {image.parent for image in found}
    used = [container.image for container in call.engine.registry.all()]
    listed = [image for image in found if selects(image) and (image.names or image.id not in parents)]
    sizes = shared_sizes(listed) if shared else {}
    return [
        {
            "Id": image.id,
            "ParentId": image.parent if image.parent in ids else "",
            "RepoTags": _names(image.tags, wanted),
            "RepoDigests": _names(image.repo_digests, wanted),
            "Created": image.created // 10**9,
            "Size": image.size,
            "SharedSize": sizes.get(image.id, -1),
            "VirtualSize": image.size,
            "Labels": image.config.labels,
            "Containers": used.count(image.id),
        }
        for image in listed
    ]


def _names(full: Sequence[str], wanted: filters.Filters) -> list[str]:
    """Those that are wanted: of an image with several, Docker's list leaves the others out."""
    references = wanted.get("reference", ())
    names = [familiar(name) for name in full]
    return [name for name in names if not references or any(_is_called(name, text) for text in references)]


def _is_called(name: str, pattern: str) -> bool:
    """With its tag or digest, or without."""
    return any(name_patterns.matches(pattern, each) for each in (name, _repository(name)))


def _repository(name: str) -> str:
    return name.partition("@")[0] if "@" in name else name.rpartition(":")[0]


def _selector(call: Call[None], wanted: filters.Filters) -> Callable[[Image], bool]:
    """Raises NotFound for an image that others are compared with, InvalidParameter."""
    find = call.engine.parts.images.find
    before = [find(text).created for text in wanted.get("before", ())]
    since = [find(text).created for text in wanted.get("since", ())]
    before += [times.parse(text, time.time_ns()) for text in wanted.get("until", ())]
    dangling = filters.dangling(wanted)
    unwanted = wanted.get("label!", ())

    def selects(image: Image) -> bool:
        return (
            (not wanted.get("reference") or bool(_names(image.names, wanted)))
            and (dangling is None or dangling is not bool(image.tags))
            and filters.has_labels(image.config.labels or {}, wanted.get("label", ()))
            and not any(filters.has_labels(image.config.labels or {}, [text]) for text in unwanted)
            and all(image.created < moment for moment in before)
            and all(image.created > moment for moment in since)
        )

    return selects


@routes.get("/images/{image}/json")
def inspect(call: Call[None], image: str) -> dict[str, Any]:
    """Inspect an image."""
    images = call.engine.parts.images
    found = images.find(image)
    has_parent = any(each.id == found.parent for each in images.all())
    return {
        "Id": found.id,
        "RepoTags": [familiar(name) for name in found.tags],
        "RepoDigests": [familiar(name) for name in found.repo_digests],
        "Parent": found.parent if has_parent else "",
        "Comment": found.comment,
        "Created": moment(found.created),
        "DockerVersion": "",
        "Author": found.author,
        "Config": docker_form.config(found.config),
        "ContainerConfig": docker_form.config(found.config),  # docker-compose 1 reads the volumes there
        "Architecture": found.architecture,
        "Os": found.os,
        "Size": found.size,
        "VirtualSize": found.size,
        "GraphDriver": {"Name": "overlay2", "Data": None},
        "RootFS": {"Type": "layers", "Layers": list(found.diff_ids)},
        "Metadata": {"LastTagTime": moment(images.last_tagged(found.id))},
    }


@routes.get("/images/{image}/history")
def history(call: Call[None], image: str) -> list[dict[str, Any]]:
    """How an image came to be."""
    images = {each.id: each for each in call.engine.parts.images.all()}
    found: Image | None = call.engine.parts.images.find(image)
    steps = _steps(found) if found else []
    for step in steps:
        if found is None:
            break
        step |= {"Id": found.id, "Tags": [familiar(name) for name in found.tags] or None}
        found = images.get(found.parent)
    return steps


def _steps(image: Image) -> list[dict[str, Any]]:
    """The newest first; those that made no layer have no size."""
    sizes = iter(image.layer_sizes)
    steps = [
        {
            "Id": "<missing>",
            "Created": nanoseconds(step.created or "") // 10**9,
            "CreatedBy": step.created_by,
            "Tags": None,
            "Size": 0 if step.empty_layer else next(sizes, 0),
            "Comment": step.comment,
        }
        for step in image.history
    ]
    return steps[::-1]


@routes.post("/images/prune", query={"filters": 'JSON: `{"dangling": ["false"]}`'})
def prune(call: Call[None]) -> dict[str, Any]:
    """Remove images without a name that no container is made from; with `dangling` false those with one too."""
    wanted = filters.decode(call.query.get("filters", ""), _PRUNE_FILTERS)
    chosen = {key: texts for key, texts in wanted.items() if key != "dangling"}
    engine = call.engine
    pruned = Pruning(
        engine.parts.images,
        engine.image_events,
        engine.users_of,
        only_dangling=filters.dangling(wanted) is not False,
        is_wanted=_selector(call, chosen) if chosen else None,
    ).run()
    engine.parts.events.publish("image", "prune", "", reclaimed=str(pruned.space))
    return {"ImagesDeleted": pruned.removed or None, "SpaceReclaimed": pruned.space}


@routes.post(
    "/images/create",
    query={
        "fromImage": "what to pull",
        "fromSrc": "what to import: - for the request's body, or a URL",
        "platform": "which of the images of a name, as `linux/amd64`; of an import: what it is for",
        "repo": "its name",
        "tag": "its tag, or a digest to pull; without one all tags",
        "message": "a comment",
        "changes": "an instruction of a Dockerfile, as often as wanted",
    },
    is_slow=True,
)
def create(call: Call[None]) -> Response:
    """Pull an image, or import a tar as one."""
    source = call.query.get("fromSrc", "")
    return importing.import_image(call, source) if source else registry.pull(call)


@routes.post("/images/load", query={"quiet": "without progress"}, is_slow=True)
def load(call: Call[None]) -> Response:
    """Take in what `save` wrote."""
    coming = call.engine.parts.images.loading(call.stream)
    try:
        first = next(coming, None)  # when it is there, all of the request was read
    except CnmError as error:
        return Response(codec.encode(progress.failure(str(error))) + b"\r\n", content_type="application/json")
    return endless(call, _loading(call, chain([first], coming)), "application/json")


def _loading(call: Call[None], coming: Iterator[Progress | str | None]) -> Iterator[bytes]:
    quiet, lines = call.flag("quiet"), list[str]()
    try:
        for each in coming:
            if isinstance(each, str):
                lines.append(each)
            elif each is None or quiet or not each.total:
                yield b""
            else:
                shown = progress.of_layer("Loading layer", each.layer, each.current, each.total)
                yield codec.encode(shown) + b"\r\n"
        call.engine.image_events.tell_loaded(lines)
        for line in lines:
            yield codec.encode({"stream": f"{line}\n"}) + b"\r\n"
    except CnmError as error:
        yield codec.encode(progress.failure(str(error))) + b"\r\n"


@routes.post("/images/{image}/tag", status=201, query={"repo": "the new name", "tag": "its tag"})
def tag(call: Call[None], image: str) -> None:
    """Call an image otherwise too."""
    name, word = call.query.get("repo", ""), call.query.get("tag", "")
    reference = f"{name}:{word}" if word else name
    images = call.engine.parts.images
    images.tag(image, reference)
    call.engine.image_events.tell_tagged(images.find(reference).id, reference)


@routes.delete(
    "/images/{image}", query={"force": "though it has several names", "noprune": "keep its parents"}
)
def remove(call: Call[None], image: str) -> Response:
    """Remove an image, or one of its names."""
    images, users = call.engine.parts.images, call.engine.users_of
    try:
        found = images.find(image)
    except NotFound as error:
        removed = _remove_damaged(call, image, error)
    else:
        known = {each.id for each in images.all()}
        removed = images.remove(image, force=call.flag("force"), in_use=users, prune=not call.flag("noprune"))
        call.engine.image_events.tell_removed(found, removed, known)
    return Response(codec.encode(removed) + b"\n", content_type="application/json")


def _remove_damaged(call: Call[None], image: str, missed: NotFound) -> list[Removed]:
    """What is left of an image that is in no list. Raises `missed` where there is nothing either."""
    try:
        return call.engine.parts.images.remove_damaged(image, call.engine.users_of)
    except NotFound:
        raise missed from None


@routes.post(
    "/commit",
    body=Config | None,
    status=201,
    query={
        "container": "of which",
        "repo": "its name",
        "tag": "its tag",
        "comment": "a comment",
        "author": "who",
        "changes": "an instruction of a Dockerfile, as often as wanted",
        "pause": "whether it stands still meanwhile: it does where nothing is said",
    },
)
def commit(call: Call[Config | None]) -> dict[str, str]:
    """Make an image of a container."""
    name, word = call.query.get("repo", ""), call.query.get("tag", "")
    changes = call.query.getlist("changes") if hasattr(call.query, "getlist") else []
    ident = call.engine.commit(
        call.query.get("container", ""),
        f"{name}:{word}" if name and word else name,
        author=call.query.get("author", ""),
        message=call.query.get("comment", ""),
        changes=changes,
        pause=call.flag("pause", missing=True),
        config=call.body,
    )
    return {"Id": ident}

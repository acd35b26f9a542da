"""Where a copied file or directory goes, and under which name: the rules of `docker cp`.

They are those that https://docs.docker.com/reference/cli/docker/container/cp/ tells, `cp -a`'s as far as there is
one: a directory that exists takes what is copied into it, anything else is the new name; a source that ends in `/.`
stands for its contents, and a name that ends in `/` asserts a directory.
"""

from __future__ import annotations

import os.path
from typing import NamedTuple

from cnm.errors import CnmError


class Source(NamedTuple):
    """What is copied. `name`, where it is not "", is what its copy is called instead of the path's last part."""

    path: str
    is_directory: bool
    name: str = ""


class Target(NamedTuple):
    """Where it shall go, symbolic links followed."""

    path: str
    exists: bool = False
    is_directory: bool = False


def split_argument(argument: str) -> tuple[str, str]:
    """(container, path) of CONTAINER:PATH; the container is "" for a path of this host."""
    container, colon, path = argument.partition(":")
    if argument.startswith("/") or not colon or container.startswith("."):
        return "", argument
    return container, path


def clean(path: str) -> str:
    """Without `.`, `..` and what slashes there are too many."""
    cleaned = os.path.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned


def base(path: str) -> str:
    """The last part, "." where the path ends in it, "/" for the root."""
    return path.rstrip("/").rpartition("/")[2] or ("/" if path else ".")


def keep_ending(cleaned: str, original: str) -> str:
    """`cleaned` with the `/.` or `/` that `original` ends in, and that says what is meant."""
    if base(original) == "." and base(cleaned) != ".":
        cleaned += "." if cleaned.endswith("/") else "/."
    if original.endswith("/") and not cleaned.endswith("/"):
        cleaned += "/"
    return cleaned


def split(path: str) -> tuple[str, str]:
    """(directory, last part), the path cleaned; the last part of a path that ends in `/.` is "."."""
    cleaned = clean(path)
    if base(path) == ".":
        return cleaned, "."
    return os.path.dirname(cleaned) or ".", base(cleaned)


def followed(path: str, link_target: str) -> tuple[str, str]:
    """Of a `path` that leads to `link_target`: the path to read, and the name of the copy ("": the path's own)."""
    if base(path) == "." and base(link_target) != ".":
        link_target += "/."
    if path.endswith("/") and not link_target.endswith("/"):
        link_target += "/"
    return link_target, base(path) if base(path) != base(link_target) else ""


def joined_link(path: str, link_target: str) -> str:
    """Where the symbolic link at `path` leads."""
    return link_target if link_target.startswith("/") else clean(os.path.join(split(path)[0], link_target))


def arrange(source: Source, target: Target) -> tuple[str, str]:
    """(directory to unpack in, name of the copy there, "." for the directory itself).

    Raises CnmError, in Docker's words, for a directory that would replace a file, and for a file that shall become a
    directory.
    """
    own_name = source.name or split(source.path)[1]
    if target.exists and target.is_directory:
        return target.path, own_name
    if target.exists and source.is_directory:
        raise CnmError("cannot copy directory")
    if (
        not target.exists
        and not source.is_directory
        and (target.path.endswith("/") or base(target.path) == ".")
    ):
        raise CnmError("no such directory")
    return split(target.path)

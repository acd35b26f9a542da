"""Names of images: `busybox`, `localhost:5000/team/app:1.2`, `name@sha256:…`, by the rules of Docker's references.

Source of the rules and texts: the grammar in distribution/reference, as Docker 20.10 has it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from cnm.errors import InvalidParameter

_DEFAULT_DOMAIN = "docker.io"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_LONGEST_NAME = 255

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|[-]*)[a-z0-9]+)*"
_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)
_IDENTIFIER = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}


class Reference(NamedTuple):
    """A name taken apart; `tag` and `digest` are "" where they were not given."""

    repository: str
    """With its registry: "docker.io/library/busybox"."""
    tag: str
    digest: str

    @property
    def with_tag(self) -> Reference:
        """Itself, with "latest" where it has neither tag nor digest."""
        return self if self.tag or self.digest else self._replace(tag="latest")

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}{'@' if self.digest else ''}{self.digest}"


def parse(reference: str) -> Reference:
    """The parts of what a user wrote. Raises InvalidParameter in Docker's words."""
    if _IDENTIFIER.fullmatch(reference):
        raise InvalidParameter(
            f"invalid repository name ({reference}), cannot specify 64-byte hexadecimal strings"
        )
    domain, rest = _split_domain(reference)
    name = rest.partition(":")[0]
    if name != name.lower():
        raise InvalidParameter("invalid reference format: repository name must be lowercase")
    found = _REFERENCE.fullmatch(f"{domain}/{rest}")
    if found is None:
        raise InvalidParameter("invalid reference format")
    if len(found["name"]) > _LONGEST_NAME:
        raise InvalidParameter(f"repository name must not be more than {_LONGEST_NAME} characters")
    return Reference(found["name"], found["tag"] or "", _checked_digest(found["digest"] or ""))


def normalised(reference: str) -> str:
    """The full name: "busybox" is "docker.io/library/busybox:latest". Raises InvalidParameter."""
    return str(parse(reference).with_tag)


def familiar(name: str) -> str:
    """A full name as Docker shows it: "docker.io/library/busybox:latest" is "busybox:latest"."""
    domain, _, path = name.partition("/")
    if domain != _DEFAULT_DOMAIN:
        return name
    official = path.removeprefix(_OFFICIAL)
    return path if "/" in official else official


def identifier(reference: str) -> str:
    """The id, "sha256:" and 64 hex digits, where `reference` is a whole one; "" where it is a name or a part."""
    if _IDENTIFIER.fullmatch(reference):
        return f"sha256:{reference}"
    return reference if _DIGEST.fullmatch(reference) else ""


def _split_domain(reference: str) -> tuple[str, str]:
    """Registry and rest: the first part is a registry where it looks like a host."""
    first, slash, rest = reference.partition("/")
    if not slash or not (set(first) & set(".:") or first == "localhost"):
        first, rest = _DEFAULT_DOMAIN, reference
    domain = _DEFAULT_DOMAIN if first == _LEGACY_DOMAIN else first
    if domain == _DEFAULT_DOMAIN and "/" not in rest:
        rest = _OFFICIAL + rest
    return domain, rest


def _checked_digest(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    if not digest:
        return ""
    if algorithm not in _LENGTHS:
        raise InvalidParameter("unsupported digest algorithm")
    if len(value) != _LENGTHS[algorithm]:
        raise InvalidParameter("invalid checksum digest length")
    if value != value.lower():
        raise InvalidParameter("invalid checksum digest format")
    return digest

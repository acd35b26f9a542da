"""What `docker logs --details` shows before each line: labels and variables that log options name.

The rules are Docker's (daemon/logger/loginfo.go of 20.10).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote_plus

from cnm.errors import InvalidParameter
from cnm.launcher.container import Container


def details(container: Container) -> str:
    """As "key=value,key=value", sorted and quoted as in a URL; "" for nothing."""
    config = container.host.log_config
    options = (config.config if config else None) or {}
    pairs = (entry.partition("=") for entry in container.config.env or ())
    variables = {name: value for name, separator, value in pairs if separator}
    found: dict[str, str] = {}
    for known, kind in ((container.config.labels or {}, "labels"), (variables, "env")):
        found |= {name: known[name] for name in _named(known, kind, options)}
    if tag := options.get("tag"):
        found["tag"] = tag
    return ",".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in sorted(found.items()))


def _named(known: Iterable[str], kind: str, options: Mapping[str, str]) -> Iterator[str]:
    names, pattern = options.get(kind, "").split(","), options.get(f"{kind}-regex", "")
    expression = re.compile(pattern) if pattern else None
    for name in known:
        if name in names or (expression and expression.search(name)):
            yield name


def check(options: Mapping[str, str]) -> None:
    """Raises InvalidParameter for what is no regular expression, and for a tag that is a template."""
    for name in ("labels-regex", "env-regex"):
        try:
            re.compile(options.get(name, ""))
        except re.error as error:
            raise InvalidParameter(f"error parsing regexp of {name}: {error}") from None
    if "{{" in options.get("tag", ""):
        raise InvalidParameter("templates in a log's tag are not built: give the tag as it is to be")

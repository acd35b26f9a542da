"""Changes to an image's configuration in the words of a Dockerfile: `import --change`, `commit --change`.

Source of rules and texts: builder/dockerfile of Docker 20.10, BuildFromConfig, and its instructions' parsers.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from cnm.errors import InvalidParameter
from cnm.launcher.dockerfile_words import expanded, words
from cnm.wire.containers import Config, Health

_SHELL = ["/bin/sh", "-c"]
_PORT = re.compile(r"(?P<first>\d+)(?:-(?P<last>\d+))?")
_PROTOCOLS = ("tcp", "udp", "sctp")
_HIGHEST_PORT = 65535
_OPTION = re.compile(r"--(?P<name>[a-z-]+)=(?P<value>\S+)\s+")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}


def changed(config: Config, changes: Sequence[str]) -> Config:
    """`config` after the instructions CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD USER VOLUME WORKDIR.

    It stays as it is itself. Raises InvalidParameter in Docker's words.
    """
    lines = list(_lines(changes))
    if changes and not lines:
        raise InvalidParameter("file with no instructions")
    for word, _ in lines:
        if word not in _INSTRUCTIONS:
            raise InvalidParameter(f"{word} is not a valid change command")
    has_command = False
    for word, rest in lines:
        if not rest and word not in _TAKE_NOTHING:
            raise InvalidParameter(f"{word.upper()} requires {_NEEDS.get(word, 'at least one argument')}")
        config = _INSTRUCTIONS[word](config, rest)
        has_command = has_command or word == "cmd"
        if word == "entrypoint" and not has_command:
            config = msgspec.structs.replace(config, cmd=None)
    return config


def _lines(changes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Instruction, in small letters, and the rest of each line; a backslash at the end continues it."""
    text = re.sub(r"\\[ \t]*\n", "", "\n".join(changes))
    for line in map(str.strip, text.splitlines()):
        if line and not line.startswith("#"):
            word, _, rest = line.partition(" ")
            yield word.lower(), rest.strip()


def _environment(config: Config) -> dict[str, str]:
    return dict(entry.partition("=")[::2] for entry in config.env or [])


def _expanded_words(config: Config, rest: str) -> list[str]:
    environment = _environment(config)
    return [expanded(word, environment) for word in words(rest)]


def _pairs(config: Config, name: str, rest: str) -> Iterator[tuple[str, str]]:
    """KEY=VALUE …, or the old KEY VALUE, whose value is the rest of the line."""
    environment = _environment(config)
    found = words(rest)
    if "=" not in found[0]:
        key, blank, value = rest.partition(" ")
        if not blank:
            raise InvalidParameter(f"{name} must have two arguments")
        yield expanded(key, environment), expanded(value.strip(), environment)
        return
    for word in found:
        key, equals, value = word.partition("=")
        if not equals:
            raise InvalidParameter(
                f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value'
            )
        if not key:
            raise InvalidParameter(f"{name} names can not be blank")
        yield expanded(key, environment), expanded(value, environment)


def _list(rest: str) -> list[str] | None:
    """The JSON form; None where it is not one: then the text is a shell's."""
    try:
        return msgspec.json.decode(rest, type=list[str])
    except msgspec.DecodeError:
        return None


def _command_line(config: Config, rest: str) -> list[str]:
    found = _list(rest)
    return [*(config.shell or _SHELL), *filter(None, [rest])] if found is None else found


def _env(config: Config, rest: str) -> Config:
    environment = _environment(config)
    environment.update(_pairs(config, "ENV", rest))
    return msgspec.structs.replace(config, env=[f"{key}={value}" for key, value in environment.items()])


def _label(config: Config, rest: str) -> Config:
    return msgspec.structs.replace(
        config, labels={**(config.labels or {}), **dict(_pairs(config, "LABEL", rest))}
    )


def _cmd(config: Config, rest: str) -> Config:
    return msgspec.structs.replace(config, cmd=_command_line(config, rest))


def _entrypoint(config: Config, rest: str) -> Config:
    return msgspec.structs.replace(config, entrypoint=(rest and _command_line(config, rest)) or None)


def _expose(config: Config, rest: str) -> Config:
    ports: dict[str, Any] = {
        port: {} for word in _expanded_words(config, rest) if word for port in _ports(word)
    }
    return msgspec.structs.replace(config, exposed_ports={**(config.exposed_ports or {}), **ports})


def _ports(word: str) -> Iterator[str]:
    """What `word` exposes, "80", "53/udp", "8000-8010"; a host's port before it, as in "80:80", does not count."""
    text, _, protocol = word.rpartition(":")[2].partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise InvalidParameter(f"Invalid proto: {protocol}")
    port = _PORT.fullmatch(text)
    first, last = (int(port["first"]), int(port["last"] or port["first"])) if port else (0, 0)
    if port is None or last < first or last > _HIGHEST_PORT:
        raise InvalidParameter(f"Invalid containerPort: {text}")
    yield from (f"{number}/{protocol}" for number in range(first, last + 1))


def _user(config: Config, rest: str) -> Config:
    return msgspec.structs.replace(config, user=expanded(rest, _environment(config)))


def _workdir(config: Config, rest: str) -> Config:
    path = expanded(rest, _environment(config))
    joined = posixpath.join("/", config.working_dir or "/", path)
    return msgspec.structs.replace(config, working_dir=posixpath.normpath(joined))


def _volume(config: Config, rest: str) -> Config:
    found = _list(rest)
    environment = _environment(config)
    paths = words(rest) if found is None else found
    if not paths:
        raise InvalidParameter("VOLUME requires at least one argument")
    volumes: dict[str, Any] = {expanded(path, environment).strip(): {} for path in paths}
    if "" in volumes:
        raise InvalidParameter("VOLUME specified can not be an empty string")
    return msgspec.structs.replace(config, volumes={**(config.volumes or {}), **volumes})


def _onbuild(config: Config, rest: str) -> Config:
    trigger = rest.split()[0].upper()
    if trigger == "ONBUILD":
        raise InvalidParameter("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise InvalidParameter(f"{trigger} isn't allowed as an ONBUILD trigger")
    return msgspec.structs.replace(config, on_build=[*(config.on_build or []), rest])


def _healthcheck(config: Config, rest: str) -> Config:
    options, rest = _options(rest)
    kind, _, command = rest.partition(" ")
    if kind.upper() == "NONE":
        if command.strip():
            raise InvalidParameter("HEALTHCHECK NONE takes no arguments")
        return msgspec.structs.replace(config, healthcheck=Health(test=["NONE"]))
    if kind.upper() != "CMD":
        raise InvalidParameter(f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)')
    if not command.strip():
        raise InvalidParameter("Missing command after HEALTHCHECK CMD")
    found = _list(command.strip())
    test = ["CMD-SHELL", command.strip()] if found is None else ["CMD", *found]
    return msgspec.structs.replace(config, healthcheck=_health(test, options))


def _options(rest: str) -> tuple[Mapping[str, str], str]:
    options = {}
    while option := _OPTION.match(rest):
        options[option["name"]] = option["value"]
        rest = rest[option.end() :]
    return options, rest


def _health(test: list[str], options: Mapping[str, str]) -> Health:
    known = {"interval", "timeout", "start-period", "retries"}
    if unknown := sorted(options.keys() - known):
        raise InvalidParameter(f"Unknown flag: {unknown[0]}")
    retries = options.get("retries", "0")
    if not retries.isdecimal():
        raise InvalidParameter(f'strconv.ParseInt: parsing "{retries}": invalid syntax')
    times = {name.replace("-", "_"): _nanoseconds(options[name]) for name in options if name != "retries"}
    return Health(test=test, retries=int(retries), **times)


def _nanoseconds(text: str) -> int:
    parts = _DURATION.findall(text)
    if text.isdecimal():
        raise InvalidParameter(f'time: missing unit in duration "{text}"')
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidParameter(f'time: invalid duration "{text}"')
    return sum(int(float(number) * _NANOSECONDS[unit]) for number, unit in parts)


_TAKE_NOTHING = ("cmd", "entrypoint")
_NEEDS = {"user": "exactly one argument", "workdir": "exactly one argument"}
_INSTRUCTIONS: dict[str, Callable[[Config, str], Config]] = {
    "cmd": _cmd,
    "entrypoint": _entrypoint,
    "env": _env,
    "expose": _expose,
    "healthcheck": _healthcheck,
    "label": _label,
    "onbuild": _onbuild,
    "user": _user,
    "volume": _volume,
    "workdir": _workdir,
}

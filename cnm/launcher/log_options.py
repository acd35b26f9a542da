"""How a container's output is kept: `--log-driver` and `--log-opt`.

The drivers `json-file` and `local` are both the file that conmon writes, and `none` keeps none. Words and rules are
Docker's (daemon/logger of 20.10), said when the container is made, where Docker finds some out at its start. Docker
begins a new file at `max-size` and keeps `max-file` of them; conmon keeps one, and begins it anew when it is as large
as they are together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from cnm.errors import InvalidParameter
from cnm.launcher import log_details
from cnm.wire.containers import LogConfig

JSON_FILE, LOCAL, NONE = "json-file", "local", "none"
"""`json-file` is what clients are told of a file that is none: docker-compose 1 shows only logs of drivers it knows."""
DRIVERS = (JSON_FILE, LOCAL, NONE)

_DOCKERS_OTHERS = frozenset(
    {"awslogs", "fluentd", "gcplogs", "gelf", "journald", "logentries", "splunk", "syslog"}
)
_OF_ALL = frozenset({"mode", "max-buffer-size"})
_OPTIONS = {
    JSON_FILE: frozenset(
        {"max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"}
    ),
    LOCAL: frozenset({"max-file", "max-size", "compress"}),
}
_UNKNOWN = {
    JSON_FILE: "unknown log opt '{}' for json-file log driver",
    LOCAL: "unknown log opt '{}' for log driver local",
}
_SIZE = re.compile(r"(\d+(?:\.\d+)*) ?([kmgtp]?)(?:i?b)?", re.IGNORECASE | re.ASCII)
_LOCAL_SIZE, _LOCAL_FILES = 20 * 1024**2, 5


class _Limits(NamedTuple):
    size: int
    """Bytes of one file, 0 for no limit."""
    files: int


def keeps_log(config: LogConfig | None) -> bool:
    return _driver(config) != NONE


def largest(config: LogConfig | None) -> int:
    """Bytes that the log may have, 0 for no limit. Raises InvalidParameter."""
    limits = _limits(_driver(config), _options(config))
    return limits.size * limits.files


def check(config: LogConfig | None) -> None:
    """Raises InvalidParameter for a driver that is not there, and for options that it has not, or not so."""
    driver, options = _driver(config), _options(config)
    if driver == NONE:
        return
    _check_mode(options)
    if driver in _DOCKERS_OTHERS:
        raise InvalidParameter(
            f"logger: no log driver named '{driver}' is registered: use {', '.join(DRIVERS[:-1])} or {NONE}"
        )
    if driver not in DRIVERS:
        raise InvalidParameter(f'error looking up logging plugin {driver}: plugin "{driver}" not found')
    for name in sorted(options.keys() - _OF_ALL - _OPTIONS[driver]):
        raise InvalidParameter(_UNKNOWN[driver].format(name))
    try:
        limits = _limits(driver, options)
        _check_compression(driver, options, limits)
        log_details.check(options)
    except InvalidParameter as error:
        raise InvalidParameter(f"failed to initialize logging driver: {error}") from None


def _driver(config: LogConfig | None) -> str:
    return (config.type if config else None) or JSON_FILE


def _options(config: LogConfig | None) -> Mapping[str, str]:
    return (config.config if config else None) or {}


def _check_mode(options: Mapping[str, str]) -> None:
    """That nobody waits for the log's writer is so in neither mode: a file takes what is written."""
    mode = options.get("mode", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidParameter(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options:
        if mode != "non-blocking":
            raise InvalidParameter(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'"
            )
        try:
            _bytes(options["max-buffer-size"])
        except InvalidParameter as error:
            raise InvalidParameter(f"error parsing option max-buffer-size: {error}") from None


def _limits(driver: str, options: Mapping[str, str]) -> _Limits:
    """Raises InvalidParameter."""
    size, files = (_LOCAL_SIZE, _LOCAL_FILES) if driver == LOCAL else (0, 1)
    if "max-size" in options:
        size = _bytes(options["max-size"])
        if size <= 0:
            raise InvalidParameter("max-size must be a positive number")
    if "max-file" in options:
        if not re.fullmatch(r"[+-]?[0-9]+", options["max-file"]):
            raise InvalidParameter(f"max-file must be a number, and is {options['max-file']!r}")
        files = int(options["max-file"])
        if files < 1:
            raise InvalidParameter("max-file cannot be less than 1")
    return _Limits(size, files)


def _check_compression(driver: str, options: Mapping[str, str], limits: _Limits) -> None:
    """Nothing is compressed here; what Docker refuses is refused."""
    text = options.get("compress", "true" if driver == LOCAL else "false")
    if text not in ("1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False"):
        raise InvalidParameter(f"compress must be true or false, and is {text!r}")
    if text[0] not in "1tT":
        return
    if driver == LOCAL and limits.files == 1:
        raise InvalidParameter("compression cannot be enabled when max file count is 1")
    if driver == JSON_FILE and (limits.files == 1 or not limits.size):
        raise InvalidParameter("compress cannot be true when max-file is less than 2 or max-size is not set")


def _bytes(text: str) -> int:
    """Of "10m", as go-units has it: in powers of 1000. Raises InvalidParameter."""
    match = _SIZE.fullmatch(text)
    if not match or match[1].count(".") > 1:
        raise InvalidParameter(f"invalid size: '{text}'")
    return int(float(match[1]) * 1000 ** ["", *"kmgtp"].index(match[2].lower()))

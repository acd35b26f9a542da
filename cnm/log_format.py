"""Logs of the daemons: a line of key=value, or of JSON, on stderr."""

from __future__ import annotations

import json
import logging
import time

from cnm.config import Settings


def start_logging(settings: Settings) -> None:
    """In the format and from the level that the settings say."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)


class TextFormatter(logging.Formatter):
    """One line of key=value; whatever has spaces is quoted."""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields(self, record)
        return " ".join(
            f"{key}={json.dumps(v) if ' ' in v or chr(34) in v else v}" for key, v in fields.items()
        )


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_fields(self, record))


def _fields(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, str]:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
    fields = {
        "time": stamp,
        "level": record.levelname.lower(),
        "from": record.name,
        "msg": record.getMessage(),
    }
    if record.exc_info:
        fields["trace"] = formatter.formatException(record.exc_info)
    return fields

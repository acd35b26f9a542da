"""Options of logs: what they say, and what is refused in Docker's words."""

from __future__ import annotations

import pytest

from cnm.errors import InvalidParameter
from cnm.launcher.log_options import check, keeps_log, largest
from cnm.wire.containers import LogConfig


def _config(driver: str = "", **options: str) -> LogConfig:
    return LogConfig(type=driver, config={key.replace("_", "-"): value for key, value in options.items()})


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (None, 0),
        (_config(), 0),
        (_config(max_file="3"), 0),
        (_config("json-file", max_size="10m"), 10_000_000),
        (_config(max_size="1.5k", max_file="2"), 3000),
        (_config(max_size="2 KiB"), 2000),
        (_config(max_size="7b"), 7),
        (_config("local"), 5 * 20 * 1024**2),
        (_config("local", max_size="1k", max_file="2"), 2000),
    ],
)
def test_a_log_may_be_as_large_as_docker_s_files_are_together(config: LogConfig | None, size: int) -> None:
    check(config)

    assert largest(config) == size


def test_only_the_driver_none_keeps_nothing() -> None:
    assert [keeps_log(each) for each in (None, _config(), _config("local"), _config("none"))] == [
        True,
        True,
        True,
        False,
    ]
    check(_config("none", whatever="1"))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (_config("local", max_file="1"), "compression cannot be enabled when max file count is 1"),
        (_config(compress="true", max_size="1k"), "compress cannot be true when max-file is less than 2"),
        (_config(compress="maybe"), "compress must be true or false"),
        (_config(max_file="many"), "max-file must be a number"),
        (_config(max_size="-1"), "invalid size: '-1'"),
        (_config(max_size="1.2.3k"), "invalid size: '1.2.3k'"),
        (_config(labels_regex="["), "error parsing regexp of labels-regex"),
        (_config(tag="{{.ID}}"), "templates in a log's tag are not built"),
        (_config(max_buffer_size="1m"), "only supported with 'mode=non-blocking'"),
        (_config(mode="non-blocking", max_buffer_size="x"), "option max-buffer-size: invalid size: 'x'"),
    ],
)
def test_what_cannot_be_is_refused(config: LogConfig, words: str) -> None:
    with pytest.raises(InvalidParameter, match=words.replace("{", r"\{").replace("[", r"\[")):
        check(config)

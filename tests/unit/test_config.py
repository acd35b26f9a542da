"""Settings come from a file and from flags; what is wrong in them is named, and nothing starts."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from cnm import daemon, log_format
from cnm.config import AddressPool, Settings, load
from cnm.errors import InvalidParameter


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def test_missing_file_gives_the_defaults_unless_it_was_asked_for(file: Path) -> None:
    assert load(str(file), {}) == Settings()
    with pytest.raises(InvalidParameter, match="does not exist"):
        load(str(file), {}, must_exist=True)


def test_flags_go_before_the_file_and_the_file_before_the_defaults(file: Path) -> None:
    file.write_text('root = "/a"\nrun = "/b"\n')

    settings = load(str(file), {"root": "/flag", "run": None})

    assert (settings.root, settings.run, settings.plugin_dir) == ("/flag", "/b", Settings().plugin_dir)


def test_tables_of_address_pools_are_read(file: Path) -> None:
    file.write_text('[[default-address-pools]]\nbase = "10.200.0.0/16"\nsize = 24\n')

    assert load(str(file), {}).default_address_pools == (AddressPool("10.200.0.0/16", 24),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nosuch = 1", "nosuch"),
        ("threads = 0", "threads"),
        ('threads = "many"', "threads"),
        ('log-format = "xml"', "log-format"),
        ('log-level = "loud"', "log-level"),
        ('root = "relative"', "root"),
        ('remote-plugin-spec-dirs = ["relative"]', "remote-plugin-spec-dirs"),
        ("remote-plugin-timeout = 0", "remote-plugin-timeout"),
        ("root = ", "config.toml"),
    ],
)
def test_wrong_settings_are_refused_by_name_and_check_config_says_so(
    file: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    file.write_text(text)

    code = daemon.main(["--config", str(file), "--check-config"])

    said = capsys.readouterr().err
    assert code == 1
    assert words in said
    assert len(said.splitlines()) == 1


def test_check_config_of_sound_settings_starts_nothing(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text('log-format = "json"')

    assert daemon.main(["--config", str(file), "--check-config"]) == 0
    assert capsys.readouterr().out == f"{file}: ok\n"


@pytest.fixture
def record() -> logging.LogRecord:
    return logging.LogRecord("cnm.x", logging.WARNING, "", 0, 'network "%s" is gone', ("web",), None)


def test_text_log_is_one_line_of_key_and_value(record: Any) -> None:
    line = log_format.TextFormatter().format(record)

    assert " level=warning from=cnm.x " in line
    assert line.endswith(r'msg="network \"web\" is gone"')


def test_json_log_is_one_object_a_line(record: Any) -> None:
    fields = json.loads(log_format.JsonFormatter().format(record))

    assert (fields["level"], fields["from"], fields["msg"]) == ("warning", "cnm.x", 'network "web" is gone')

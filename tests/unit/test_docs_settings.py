"""The page about cnmd has every setting and flag, with its default, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from cnm import daemon
from cnm.config import Launcher, PluginTcp, Settings

_DOCS = Path(__file__).parents[2] / "docs"
_PAGE = (_DOCS / "cnmd.md").read_text()


def _rows(heading: str, page: str = _PAGE) -> list[list[str]]:
    """Cells of the table below a heading, without its head."""
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_every_setting_is_there_with_its_default() -> None:
    said = {key.strip("`"): default.strip("`") for key, default, _ in _rows("Settings")}
    defaults = msgspec.to_builtins(Settings())
    del defaults["launcher"]

    assert said == {
        key: "" if value is None else msgspec.json.encode(value).decode().replace("60.0", "60")
        for key, value in defaults.items()
    }


def test_every_setting_of_the_launcher_is_on_its_page() -> None:
    rows = _rows("Settings", (_DOCS / "launcher.md").read_text())

    said = {key.strip("`"): default.strip("`") for key, default, _ in rows}

    assert said == {
        key: msgspec.json.encode(value).decode() for key, value in msgspec.to_builtins(Launcher()).items()
    }


def test_every_key_of_plugin_tcp_is_there() -> None:
    said = {key for keys, _ in _rows("Plugins over TCP") for key in re.findall(r"`([^`]+)`", keys)}

    assert said == {field.encode_name for field in msgspec.structs.fields(PluginTcp)}


def test_every_flag_is_there_beside_its_setting() -> None:
    actions = {flag: action for action in daemon._parser()._actions for flag in action.option_strings}
    rows = {flag.strip("`").split()[0]: setting.strip("`") for flag, setting, _ in _rows("Flags")}

    assert set(rows) == {flag for flag in actions if flag.startswith("--")}
    settings = {field.encode_name: field.name for field in msgspec.structs.fields(Settings)}
    assert {flag: settings[setting] for flag, setting in rows.items() if setting} == {
        flag: action.dest for flag, action in actions.items() if action.dest in settings.values()
    }

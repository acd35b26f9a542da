"""Users and groups of a container, looked up in its own root file system."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnm.errors import InvalidParameter
from cnm.launcher.users import User, find_user

_PASSWD = """
root:x:0:0::/root:/bin/sh
broken
app:x:1000:1001:App:/home/app:/bin/sh
app:x:5:5::/second:/
7:x:70:70::/:
"""
_GROUP = "root:x:0:\nvideo:x:44:app,other\naudio:x:29:app\n44:x:440:\nempty\n"


@pytest.fixture
def root(tmp_path: Path) -> str:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text(_PASSWD)
    (tmp_path / "etc" / "group").write_text(_GROUP)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("", User(0, 0, (0,), "/root")),
        ("app", User(1000, 1001, (1001, 44, 29), "/home/app")),
        ("1000", User(1000, 1001, (1001, 44, 29), "/home/app")),
        ("app:video", User(1000, 44, (44,), "/home/app")),
        ("app:9", User(1000, 9, (9,), "/home/app")),
        ("7", User(7, 0, (0,), "")),
        ("70", User(70, 70, (70,), "/")),
        (":44", User(0, 44, (44,), "/root")),
    ],
)
def test_a_user_is_found(root: str, wanted: str, found: User) -> None:
    assert find_user(root, wanted) == found


def test_groups_are_added_by_name_or_number(root: str) -> None:
    assert find_user(root, "", ["audio", "44", "5000"]).additional_gids == (0, 29, 44, 5000)


@pytest.mark.parametrize(
    ("wanted", "added", "words"),
    [
        ("me", (), "unable to find user me: no matching entries in passwd file"),
        ("app:us", (), "unable to find group us: no matching entries in group file"),
        ("", ("us",), "unable to find group us: no matching entries in group file"),
        ("-1", (), "uids and gids must be in range 0-2147483647"),
        ("0:2147483648", (), "uids and gids must be in range 0-2147483647"),
    ],
)
def test_who_is_not_there_is_named(root: str, wanted: str, added: tuple[str, ...], words: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        find_user(root, wanted, added)

    assert str(refused.value) == words


def test_numbers_need_no_files(tmp_path: Path) -> None:
    assert find_user(str(tmp_path), "12:34", ["56"]) == User(12, 34, (34, 56), "")


def test_a_link_does_not_lead_out_of_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "passwd").symlink_to("/../../elsewhere")
    (root / "elsewhere").write_text("inside:x:1:1::/:\n")
    (tmp_path / "elsewhere").write_text("outside:x:2:2::/:\n")

    assert find_user(str(root), "inside").uid == 1
    with pytest.raises(InvalidParameter):
        find_user(str(root), "outside")

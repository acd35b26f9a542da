"""What no list of the store names is deleted, and nothing else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cnm.errors import CnmError
from cnm.launcher.nameless_files import drop_nameless
from cnm.launcher.storage import Storage

_KNOWN, _HALF, _NAMELESS = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with a layer and an image, a layer that is flagged as incomplete, and one of each that nobody knows."""
    for layer, link in ((_KNOWN, "KNOWN"), (_HALF, "HALF"), (_NAMELESS, "NAMELESS")):
        diff = tmp_path / "overlay" / layer / "diff" / "usr"
        diff.mkdir(parents=True)
        (diff / "file").write_text("x")
        (tmp_path / "overlay/l").mkdir(exist_ok=True)
        (tmp_path / "overlay/l" / link).symlink_to(f"../{layer}/diff")
        (tmp_path / "overlay-layers").mkdir(exist_ok=True)
        (tmp_path / "overlay-layers" / f"{layer}.tar-split.gz").write_text("x")
        (tmp_path / "overlay-images" / layer).mkdir(parents=True)
    (tmp_path / "overlay/compat123").mkdir()
    _write(tmp_path, "layers", [{"id": _KNOWN}, {"id": _HALF, "incomplete": True}])
    _write(tmp_path, "images", [{"id": _KNOWN, "layer": _KNOWN}, {"id": _HALF, "layer": _HALF}])
    return tmp_path


def _write(root: Path, what: str, entries: list[dict[str, object]]) -> None:
    (root / f"overlay-{what}").mkdir(exist_ok=True)
    (root / f"overlay-{what}" / f"{what}.json").write_text(json.dumps(entries))


def test_what_nobody_knows_goes_with_its_links_and_headers(root: Path) -> None:
    drop_nameless(Storage(str(root)))

    assert set(os.listdir(root / "overlay")) == {"l", "compat123", _KNOWN, _HALF}
    assert set(os.listdir(root / "overlay/l")) == {"KNOWN", "HALF"}
    assert set(os.listdir(root / "overlay-layers")) == {
        "layers.json",
        f"{_KNOWN}.tar-split.gz",
        f"{_HALF}.tar-split.gz",
    }
    assert set(os.listdir(root / "overlay-images")) == {"images.json", _KNOWN, _HALF}
    assert (root / "overlay" / _KNOWN / "diff/usr/file").exists()


def test_layers_of_newer_stores_short_lived_list_are_known(root: Path) -> None:
    (root / "overlay-layers/volatile-layers.json").write_text(json.dumps([{"id": _NAMELESS}]))

    drop_nameless(Storage(str(root)))

    assert (root / "overlay" / _NAMELESS / "diff/usr/file").exists()


def test_nothing_goes_where_a_list_cannot_be_read(root: Path) -> None:
    (root / "overlay-layers/layers.json").write_text("[{")

    with pytest.raises(CnmError, match=r"layers\.json is damaged"):
        drop_nameless(Storage(str(root)))

    assert (root / "overlay" / _NAMELESS).exists()


def test_an_empty_store_stays_empty(tmp_path: Path) -> None:
    drop_nameless(Storage(str(tmp_path)))

    assert os.listdir(tmp_path) == []

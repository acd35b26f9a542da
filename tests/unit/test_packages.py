"""What is installed: every package of the checkout, under one import name, with what it needs at run time."""

from __future__ import annotations

import ast
import configparser
import functools
import importlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).parents[2]
_SOURCES = {"cnm": "cnm", "cnm.drivers": "drivers", "cnm.plugin": "plugin"}
"""Import name and folder, as `package_dir` in setup.cfg maps them."""


@pytest.fixture(scope="module")
def settings() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(_CHECKOUT / "setup.cfg")
    return parser


@pytest.fixture(scope="module")
def wheel_files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Built from a copy, so that the checkout gets no build folder."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(_CHECKOUT / name, source)
    for folder in filter(lambda name: (_CHECKOUT / name).exists(), _SOURCES.values()):
        shutil.copytree(_CHECKOUT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    subprocess.run([*build, "--wheel-dir", output, source], check=True)
    (wheel,) = output.glob("*.whl")
    return zipfile.ZipFile(wheel).namelist()


def _packages() -> set[str]:
    return {
        ".".join((name, *path.parent.relative_to(_CHECKOUT / folder).parts))
        for name, folder in _SOURCES.items()
        for path in (_CHECKOUT / folder).rglob("__init__.py")
    }


def _imported() -> set[str]:
    """First names of everything that the installed code imports, wherever in a file."""
    trees = [
        ast.parse(path.read_text())
        for folder in _SOURCES.values()
        for path in (_CHECKOUT / folder).rglob("*.py")
    ]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    taken = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.split(".")[0] for name in plain | taken}


def test_every_package_is_listed(settings: configparser.ConfigParser) -> None:
    assert set(settings["options"]["packages"].split()) == _packages()


def test_every_module_is_in_the_wheel(wheel_files: list[str]) -> None:
    modules = {
        "/".join((*name.split("."), *path.relative_to(_CHECKOUT / folder).parts))
        for name, folder in _SOURCES.items()
        for path in (_CHECKOUT / folder).rglob("*.py")
    }

    assert modules <= set(wheel_files)


def test_the_wheel_exposes_one_import_name(wheel_files: list[str]) -> None:
    assert {name.split("/")[0] for name in wheel_files if ".dist-info/" not in name} == {"cnm"}


def test_the_wheel_says_that_it_is_typed(wheel_files: list[str]) -> None:
    assert "cnm/py.typed" in wheel_files


def test_what_is_imported_is_required(settings: configparser.ConfigParser) -> None:
    foreign = _imported() - sys.stdlib_module_names - {"cnm", "_typeshed"}
    required = set(settings["options"]["install_requires"].split())

    assert {name for name in foreign if not required & _distributions(name)} == set()


def test_what_is_required_is_imported(settings: configparser.ConfigParser) -> None:
    required = set(settings["options"]["install_requires"].split())

    assert required - {distribution for name in _imported() for distribution in _distributions(name)} == set()


def _distributions(name: str) -> set[str]:
    """The distributions that provide an import name, spelt as in setup.cfg."""
    return {found.lower().replace("_", "-") for found in _provided().get(name, [])}


@functools.cache
def _provided() -> Mapping[str, list[str]]:
    """Distributions by the names that can be imported from them: all of the environment is looked through."""
    return packages_distributions()


def test_every_entry_point_leads_somewhere(settings: configparser.ConfigParser) -> None:
    for group in settings["options.entry_points"].values():
        for point in group.strip().splitlines():
            module, name = point.split("=")[1].strip().split(":")

            assert callable(getattr(importlib.import_module(module), name))

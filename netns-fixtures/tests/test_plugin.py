"""The plugin in pytest runs of its own: off by default, isolated when asked, each worker for itself."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, since it makes namespaces")

PAIR = """
[hosts.a]
[hosts.b]
[[links]]
ends = [
  { host = "a", interface = "eth0", addresses = ["192.0.2.1/24"] },
  { host = "b", interface = "eth0", addresses = ["192.0.2.2/24"] },
]
"""


@pytest.fixture
def isolated(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A place for test files, where other people's plugins are not loaded, since that takes a second."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makefile(
        ".ini", pytest="[pytest]\nnetns_isolate = true\naddopts = --strict-markers -p netns_fixtures.plugin"
    )
    pytester.makefile(".toml", net=PAIR)
    return pytester


def test_the_plugin_changes_nothing_unless_asked(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        f"""
        import os, sys
        def test_it():
            assert os.readlink("/proc/self/ns/net") == {os.readlink("/proc/self/ns/net")!r}
            assert os.readlink("/proc/self/ns/mnt") == {os.readlink("/proc/self/ns/mnt")!r}
            assert not {{"scapy", "pyroute2"}} & set(sys.modules)
        """
    )

    pytester.runpytest_subprocess("-p", "no:schemathesis").assert_outcomes(passed=1)


@needs_root
def test_each_test_gets_a_topology_of_its_own_from_its_marker(isolated: pytest.Pytester) -> None:
    isolated.makepyfile(
        """
        import pytest
        seen = []

        @pytest.mark.topology("net.toml")
        @pytest.mark.parametrize("number", range(2))
        def test_it(topology, number):
            assert topology.a.ping("192.0.2.2")
            assert not any(path.exists() for path in seen)
            seen.append(topology.a.path)
        """
    )

    isolated.runpytest_subprocess().assert_outcomes(passed=2)


@needs_root
def test_a_module_shares_its_topology(isolated: pytest.Pytester) -> None:
    isolated.makepyfile(
        test_one="""
        import pytest
        pytestmark = pytest.mark.topology("net.toml")
        seen = []

        @pytest.mark.parametrize("number", range(3))
        def test_it(module_topology, number):
            seen.append(module_topology.a.path)
            assert set(seen) == {module_topology.a.path}
        """,
        test_two="""
        import test_one
        def test_it():
            assert not test_one.seen[0].exists()
        """,
    )

    isolated.runpytest_subprocess().assert_outcomes(passed=4)


@needs_root
def test_a_test_builds_as_many_topologies_as_it_likes(isolated: pytest.Pytester) -> None:
    isolated.makepyfile(
        """
        def test_it(make_topology, make_module_topology):
            first, second = make_topology("net.toml"), make_topology({"hosts": {"lonely": {}}})
            third = make_module_topology("net.toml")
            assert len({first.a.path, second.lonely.path, third.a.path}) == 3
        """
    )

    isolated.runpytest_subprocess().assert_outcomes(passed=1)


@needs_root
@pytest.mark.parametrize("fixture", ["topology", "module_topology"])
def test_a_test_that_names_no_topology_is_told_how_to(isolated: pytest.Pytester, fixture: str) -> None:
    isolated.makepyfile(f"def test_it({fixture}): pass")

    result = isolated.runpytest_subprocess()

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(['*no topology is named; write *pytest.mark.topology("FILE.toml")'])


@needs_root
@pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="needs pytest-xdist")
def test_each_worker_of_xdist_isolates_itself_and_names_do_not_clash(isolated: pytest.Pytester) -> None:
    isolated.makepyfile(
        f"""
        import os, pytest
        pytestmark = pytest.mark.topology("net.toml")

        @pytest.mark.parametrize("number", range(8))
        def test_it(topology, number, request, tmp_path_factory):
            assert topology.a.ping("192.0.2.2", timeout=5)
            own = os.readlink("/proc/self/ns/net")
            assert own != {os.readlink("/proc/self/ns/net")!r}
            assert len(os.listdir("/run/netns-fixtures")) == 1
            print("worker", os.environ["PYTEST_XDIST_WORKER"], "in", own)
        """
    )

    result = isolated.runpytest_subprocess("-p", "xdist", "-n", "2", "-rP")

    result.assert_outcomes(passed=8)
    homes = dict(re.findall(r"worker (gw\d) in (\S+)", result.stdout.str()))
    assert len(homes) == len(set(homes.values())) == 2


def test_without_root_tests_are_skipped_with_the_reason(isolated: pytest.Pytester) -> None:
    isolated.makeconftest("import os\nos.geteuid = lambda: 65534")
    isolated.makepyfile("def test_it(make_topology): pass")

    result = isolated.runpytest_subprocess("-rs")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*needs root, since it makes network namespaces"])


@needs_root
def test_a_root_process_that_is_not_isolated_is_told_what_to_do(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(make_topology): pass")
    inner = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]

    result = pytester.run("unshare", "--pid", "--fork", "--mount-proc", *inner)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*IsolationError: this process still shares the machine's network*"])


@needs_root
def test_a_conftest_can_isolate_instead_of_the_setting(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import netns_fixtures\ndef pytest_configure(config): netns_fixtures.isolate()")
    pytester.makepyfile(
        "def test_it(make_topology): assert make_topology({'hosts': {'a': {}}}).a.ping('::1')"
    )

    pytester.runpytest_subprocess().assert_outcomes(passed=1)


@needs_root
def test_the_example_of_the_readme_passes_as_it_is_printed(pytester: pytest.Pytester) -> None:
    blocks = dict(
        re.findall(r"^```(ini|toml|python)\n(.*?)^```$", _first_chapter(), re.MULTILINE | re.DOTALL)
    )
    assert blocks["toml"] == (ROOT / "examples/router.toml").read_text()
    assert blocks["python"] == (ROOT / "examples/test_router.py").read_text()

    pytester.makefile(".ini", pytest=blocks["ini"])
    pytester.makefile(".toml", router=blocks["toml"])
    pytester.path.joinpath("test_router.py").write_text(blocks["python"])

    pytester.runpytest_subprocess().assert_outcomes(passed=3)


def test_the_readme_names_everything_that_is_exported_and_every_key_of_a_file() -> None:
    import netns_fixtures
    from netns_fixtures import spec

    readme = (ROOT / "README.md").read_text()
    keys = {name for kind in vars(spec).values() for name in getattr(kind, "__dataclass_fields__", ())}
    hidden = {
        "load",
        "parse",
        "Match",
        "Peer",
        "Process",
        "Server",
        "TcpServer",
        "UdpServer",
        "Status",
        "is_isolated",
    }
    hidden |= {"NetnsError", "IsolationError", "KernelRefused", "TopologyError"}

    assert [name for name in {*netns_fixtures.__all__, *keys} - hidden if name not in readme] == []


def test_every_exported_name_exists() -> None:
    import netns_fixtures

    assert all(hasattr(netns_fixtures, name) for name in netns_fixtures.__all__)
    assert not hasattr(netns_fixtures, "nothing")


def _first_chapter() -> str:
    return (ROOT / "README.md").read_text().partition("## The topology file")[0]

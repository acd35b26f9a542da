"""Which of the host's programs serves which table, and what is made of their complaints."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnm.errors import KernelError, NotFound
from cnm.kernel import iptables
from cnm.kernel.filter_tables import Backend, FilterTable
from cnm.kernel.iptables import HostIptables

NFT = FilterTable(Backend.NFT, 4, has_chain=True, forward_drops=True)
LEGACY = FilterTable(Backend.LEGACY, 4, has_chain=True, forward_drops=True)
LEGACY_IPV6 = FilterTable(Backend.LEGACY, 6, has_chain=True, forward_drops=True)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which programs are found."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(iptables, "_SYSTEM_PATH", str(tmp_path))
    return tmp_path


def install(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(("table", "name"), [(NFT, "iptables-nft"), (LEGACY_IPV6, "ip6tables-legacy")])
def test_the_program_of_the_backend_is_used(programs: Path, table: FilterTable, name: str) -> None:
    install(programs, name, 'echo "$0 $*"')

    assert HostIptables().rules(table) == [f"{programs}/{name} --wait -S"]


@pytest.mark.parametrize(
    ("says", "table", "other"),
    [
        ("iptables v1.8.9 (nf_tables)", NFT, LEGACY),
        ("iptables v1.8.9 (legacy)", LEGACY, NFT),
        ("iptables v1.6.1", LEGACY, NFT),
    ],
)
def test_plain_iptables_serves_the_backend_that_it_says(
    programs: Path, says: str, table: FilterTable, other: FilterTable
) -> None:
    install(programs, "iptables", f'[ "$1" = -V ] && echo "{says}" || echo rules')

    assert HostIptables().rules(table) == ["rules"]
    with pytest.raises(NotFound, match=f"{other.program} is not installed"):
        HostIptables().rules(other)


def test_program_that_is_installed_later_is_found(programs: Path) -> None:
    host = HostIptables()
    with pytest.raises(NotFound):
        host.rules(NFT)

    install(programs, "iptables-nft", "echo rules")

    assert host.rules(NFT) == ["rules"]


def test_changes_are_one_transaction(programs: Path, tmp_path: Path) -> None:
    install(programs, "iptables-nft", "")
    install(programs, "iptables-nft-restore", f'echo "$*" >{tmp_path}/said; /bin/cat >>{tmp_path}/said')

    HostIptables().change(NFT, ["-D X -j DROP", "-I X 1 -j ACCEPT"])

    said = (tmp_path / "said").read_text()
    assert said == "--noflush --wait\n*filter\n-D X -j DROP\n-I X 1 -j ACCEPT\nCOMMIT\n"


def test_complaint_is_told_without_remarks(programs: Path) -> None:
    remark = "# Warning: iptables-legacy tables present, use iptables-legacy to see them"
    install(programs, "iptables-nft", f'echo "{remark}" >&2; echo "iptables: no such chain" >&2; exit 1')

    with pytest.raises(KernelError, match=r"^iptables-nft refused: iptables: no such chain$"):
        HostIptables().rules(NFT)


def test_program_that_hangs_is_given_up(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iptables, "_SECONDS", 0.2)
    install(programs, "iptables-nft", "exec /bin/sleep 30")

    with pytest.raises(KernelError, match="is its lock held"):
        HostIptables().rules(NFT)

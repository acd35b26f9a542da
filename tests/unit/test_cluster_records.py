"""Records of other versions: what is missing, what is new, and a format that is too new."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from cnm.cluster import certificates, keys, networks, records, registry
from cnm.cluster.etcd.memory import MemoryEtcd, MemoryStore
from cnm.cluster.registry import Applicant, Registry
from cnm.network import NameRecord, Pool
from tests.support.memory_users import MemoryUsers

OLDEST: list[tuple[type[msgspec.Struct], dict[str, Any]]] = [
    (records.Cluster, {"id": "ab", "created": ""}),
    (records.Registration, {"name": "h1"}),
    (records.Token, {"expires": "2026-01-02T03:04:05Z"}),
    (records.Node, {"name": "h1", "address": "192.0.2.1"}),
    (records.SharedPool, {"id": "GlobalDefault/10.1.0.0/24"}),
    (records.Claim, {}),
    (records.SharedNetwork, {"id": "n1", "name": "web", "created": "", "vni": 4096, "mtu": 1450}),
    (records.SharedEndpoint, {"mac": "02:00:00:00:00:01"}),
]


@pytest.fixture
def etcd() -> MemoryEtcd:
    return MemoryEtcd(MemoryStore())


@pytest.mark.parametrize(("kind", "fields"), OLDEST, ids=lambda each: getattr(each, "__name__", ""))
def test_a_record_of_an_older_version_is_read(kind: type[msgspec.Struct], fields: dict[str, Any]) -> None:
    record = records.decode(json.dumps(fields).encode(), kind)

    assert json.loads(records.encode(record)) == fields


@pytest.mark.parametrize(("kind", "fields"), OLDEST, ids=lambda each: getattr(each, "__name__", ""))
def test_fields_of_a_newer_version_are_ignored_and_kept(
    kind: type[msgspec.Struct], fields: dict[str, Any]
) -> None:
    value = json.dumps({**fields, "colour": {"deep": ["blue"]}}).encode()

    record = records.decode(value, kind)

    assert record == records.decode(json.dumps(fields).encode(), kind)
    assert json.loads(records.encode_over(value, record)) == json.loads(value)


def test_what_is_changed_is_changed_and_what_is_gone_is_gone() -> None:
    value = b'{"name":"h1","member":true,"endpoint":"a:1","colour":"blue"}'
    before = records.decode(value, records.Registration)

    after = msgspec.structs.replace(before, member=False, endpoint="", address="192.0.2.1")

    assert json.loads(records.encode_over(value, after)) == {
        "name": "h1",
        "address": "192.0.2.1",
        "colour": "blue",
    }


def test_a_network_that_an_older_host_changes_keeps_what_that_does_not_know(etcd: MemoryEtcd) -> None:
    pool = {"pool_id": "GlobalDefault/10.1.0.0/24", "subnet": "10.1.0.0/24", "shade": "dark"}
    known = {"id": "n1", "name": "web", "created": "", "vni": 4096, "mtu": 1450, "pools": [pool]}
    etcd.put(keys.network("n1"), json.dumps({**known, "colour": "blue"}).encode())
    named = NameRecord(name="a", kind="A", value="10.1.0.9")

    changed = networks.change(etcd, "n1", lambda each: msgspec.structs.replace(each, records=(named,)))

    assert changed is not None
    assert changed.pools == (Pool(pool_id=pool["pool_id"], subnet=pool["subnet"]),)
    found = etcd.get(keys.network("n1"))
    assert found is not None
    there = json.loads(found.value)
    assert (there["colour"], there["pools"]) == ("blue", [pool])
    assert there["records"] == [{"name": "a", "kind": "A", "value": "10.1.0.9"}]


def test_a_registration_keeps_what_a_newer_member_wrote(etcd: MemoryEtcd) -> None:
    authority = certificates.new_authority("ab" * 32)
    etcd.put(keys.CLUSTER, records.encode(records.Cluster(id="ab" * 32, created="")))
    members = Registry(etcd, MemoryUsers(), authority)
    token = members.new_token(600, "h1")
    members.enrol(
        token.secret,
        Applicant("web1", ["192.0.2.7"], certificates.request(certificates.new_key(), "web1"), member=False),
    )
    found = etcd.get(keys.registration("web1"))
    assert found is not None
    etcd.put(found.key, json.dumps({**json.loads(found.value), "colour": "blue"}).encode())

    members.runs_member("web1", "192.0.2.7:2379", "192.0.2.7:2378")

    found = etcd.get(keys.registration("web1"))
    assert found is not None
    assert json.loads(found.value)["colour"] == "blue"
    assert records.decode(found.value, records.Registration).endpoint == "192.0.2.7:2379"


def test_a_cluster_of_a_format_that_is_too_new_is_refused(etcd: MemoryEtcd) -> None:
    newer = records.Cluster(id="ab", created="", needs=records.FORMAT + 1)
    etcd.put(keys.CLUSTER, records.encode(newer))

    with pytest.raises(
        records.TooNew,
        match=rf"^the cluster's records are of format {records.FORMAT + 1}, and cnm \S+ on this host knows "
        rf"{records.FORMAT} at most: upgrade it$",
    ):
        registry.read_cluster(etcd)


def test_a_cluster_of_this_format_is_read(etcd: MemoryEtcd) -> None:
    etcd.put(keys.CLUSTER, records.encode(records.Cluster(id="ab", created="", needs=records.FORMAT)))

    assert registry.read_cluster(etcd).id == "ab"

"""Etcd's messages on the wire, and who pays for them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from cnm.cluster.etcd import codec
from cnm.cluster.etcd.contract import Compare, Delete, Get, Put, Subject, absent
from cnm.cluster.etcd.messages import MESSAGES, PUT, RANGE, TXN, WATCH


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (PUT.request(key=b"a", value=b"b", lease=3), "0a0161 120162 1803"),
        (RANGE.request(key=b"a", range_end=b"b", limit=1, revision=2), "0a0161 120162 1801 2002"),
        (RANGE.request(key=b"a", serializable=True), "0a0161 3801"),
        (codec.delete("a", prefix=True), "0a0161 120162"),
        (
            WATCH.request(create_request=MESSAGES["WatchCreateRequest"](key=b"a", watch_id=1, fragment=True)),
            "0a07 0a0161 3801 4001",
        ),
        (WATCH.request(progress_request=MESSAGES["WatchProgressRequest"]()), "1a00"),
    ],
)
def test_a_message_is_what_rpc_proto_says(message: Any, wire: str) -> None:
    assert message.SerializeToString() == bytes.fromhex(wire)


def test_a_comparison_with_nothing_is_sent() -> None:
    """In a union zero is not the same as no value."""
    made = codec.transaction([absent("a")], [], [])

    assert made.SerializeToString() == bytes.fromhex("0a07 1001 1a0161 2800")


def test_a_comparison_of_a_prefix_has_its_end_where_etcd_looks_for_it() -> None:
    made = codec.transaction([Compare("a", Subject.LEASE, 5, prefix=True, differs=True)], [], [])

    assert made.SerializeToString() == bytes.fromhex("0a0d 0803 1004 1a0161 4005 82040162")


def test_operations_of_either_branch_keep_their_kind() -> None:
    made = codec.transaction([], [Put("a", b"1", 7), Delete("b")], [Get("c", prefix=True)])

    read = TXN.request.FromString(made.SerializeToString())

    assert [each.WhichOneof("union") for each in read.success] == ["request_put", "request_delete_range"]
    assert (read.success[0].request_put.lease, read.success[1].request_delete_range.key) == (7, b"b")
    assert read.failure[0].request_range.range_end == b"d"


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"a", b"b"), (b"a/", b"a0"), (b"a\xff", b"b"), (b"\xff\xff", b"\0"), (b"", b"\0")]
)
def test_what_begins_so_ends_there(prefix: bytes, end: bytes) -> None:
    assert codec.range_end(prefix) == end


def test_a_key_that_is_no_text_is_what_it_was() -> None:
    assert codec.key_bytes(codec.key_text(b"/a/\xff\xfe")) == b"/a/\xff\xfe"


def test_fields_that_are_not_known_are_passed_over() -> None:
    count = bytes.fromhex("2005")  # RangeResponse.count

    assert RANGE.response.FromString(count + bytes.fromhex("1801")).more


@pytest.mark.parametrize(
    "modules",
    [
        "cnm.daemon",
        "cnm.cli.main",
        "cnm.cluster.etcd.contract, cnm.cluster.etcd.memory, cnm.cluster.etcd.roles",
    ],
)
def test_who_is_in_no_cluster_does_not_load_grpc(modules: str) -> None:
    code = f"import sys, {modules}; print([m for m in ('grpc', 'google.protobuf') if m in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"

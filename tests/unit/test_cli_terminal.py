"""Detach keys, and the frames of a multiplexed stream, however they are cut into pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnm.cli.stdcopy import STDERR, STDOUT, Demultiplexer
from cnm.cli.terminal import DetachKeys
from cnm.errors import CnmError, InvalidParameter

CTRL_P, CTRL_Q = b"\x10", b"\x11"


class TestDetachKeys:
    def test_sequence_detaches_and_what_was_typed_before_arrives(self) -> None:
        keys = DetachKeys()

        assert keys.passed(b"ls\r" + CTRL_P + CTRL_Q + b"never") == b"ls\r"
        assert keys.detached

    def test_sequence_typed_slowly_detaches(self) -> None:
        keys = DetachKeys()

        assert keys.passed(CTRL_P) == b""
        assert not keys.detached
        assert keys.passed(CTRL_Q) == b""
        assert keys.detached

    def test_sequence_that_is_not_completed_arrives_with_the_next_key(self) -> None:
        keys = DetachKeys()

        assert keys.passed(CTRL_P) == b""
        assert keys.passed(b"x") == CTRL_P + b"x"
        assert not keys.detached

    def test_sequence_that_begins_anew_is_one(self) -> None:
        keys = DetachKeys()

        assert keys.passed(CTRL_P + CTRL_P + CTRL_Q) == CTRL_P
        assert keys.detached

    @pytest.mark.parametrize(
        ("text", "typed"),
        [
            ("a", b"a"),
            ("ctrl-a", b"\x01"),
            ("ctrl-z,z", b"\x1az"),
            ("ctrl-@", b"\x00"),
            ("ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x1b\x1c\x1d\x1e\x1f"),
            ("a,b,c", b"abc"),
        ],
    )
    def test_users_own_sequence(self, text: str, typed: bytes) -> None:
        keys = DetachKeys(text)

        assert keys.passed(typed) == b""
        assert keys.detached

    @pytest.mark.parametrize("text", ["ab", "ctrl-", "ctrl-1", "ctrl-aa", "CTRL-a", "a,", "é"])
    def test_malformed_sequence_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidParameter, match="unknown character in detach keys"):
            DetachKeys(text)

    @given(st.lists(st.binary(min_size=1, max_size=4)))
    def test_all_that_is_typed_arrives_unless_it_detaches(self, pieces: list[bytes]) -> None:
        keys = DetachKeys("a,b")

        passed = b"".join(map(keys.passed, pieces))

        typed = b"".join(pieces)
        if b"ab" in typed:
            assert keys.detached
            assert passed == typed.partition(b"ab")[0]
        else:
            assert passed == typed.removesuffix(b"a") or passed == typed
            assert not keys.detached


def frame(stream: int, content: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(content).to_bytes(4, "big") + content


class TestDemultiplexer:
    @given(
        st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=300))),
        st.lists(st.integers(1, 50)),
    )
    def test_contents_come_whole_and_in_order(self, frames: list[tuple[int, bytes]], cuts: list[int]) -> None:
        rest = b"".join(frame(*each) for each in frames)
        demultiplexer = Demultiplexer()
        found = []
        for cut in [*cuts, max(1, len(rest))]:
            found += demultiplexer.feed(rest[:cut])
            rest = rest[cut:]
        found += demultiplexer.feed(rest)

        for stream in (STDOUT, STDERR):
            sent = b"".join(content for each, content in frames if each == stream)
            assert b"".join(content for each, content in found if each == stream) == sent

    def test_part_of_a_frame_does_not_wait_for_the_rest(self) -> None:
        assert Demultiplexer().feed(frame(STDOUT, b"hello")[:-2]) == [(STDOUT, b"hel")]

    def test_stdin_comes_out_as_stdout(self) -> None:
        assert Demultiplexer().feed(frame(0, b"x")) == [(STDOUT, b"x")]

    def test_failure_of_the_daemon_is_one(self) -> None:
        with pytest.raises(CnmError, match="error from daemon in stream: disk is full"):
            Demultiplexer().feed(frame(3, b"disk is full\n"))

    def test_what_is_no_such_stream_is_said_to_be_none(self) -> None:
        with pytest.raises(CnmError, match="unrecognized stream: 104"):
            Demultiplexer().feed(b"hello world")

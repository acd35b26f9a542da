"""What only the root user does to an etcd: members, their state, backups, users and roles."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from cnm.cluster.etcd import backup, codec, messages
from cnm.cluster.etcd.backup import Saved
from cnm.cluster.etcd.calls import Effect
from cnm.cluster.etcd.channel import Connection
from cnm.cluster.etcd.client import Client
from cnm.cluster.etcd.contract import Compacted, Denied, EtcdError
from cnm.cluster.etcd.faults import judge, refusal
from cnm.cluster.etcd.messages import MESSAGES, Method
from cnm.cluster.etcd.roles import Access, Permission
from cnm.errors import Conflict, NotFound

ROOT = "root"
"""The user, and the role, that may do everything."""

_CHANGE_SECONDS = 5.0
"""For users, roles and upkeep."""
_MEMBER_SECONDS = 8.0
"""For other members: they do not agree to it before all have been connected to each other for five."""


class Member(NamedTuple):
    """As the others know it."""

    id: int
    name: str
    """"" before it has started for the first time."""
    peer_urls: list[str]
    client_urls: list[str]
    learner: bool
    """It has no vote yet."""

    @property
    def endpoints(self) -> list[str]:
        """HOST:PORT, for clients."""
        return [url.partition("//")[2] for url in self.client_urls]


class MemberStatus(NamedTuple):
    """What a member says of itself; with an `error` it says nothing."""

    endpoint: str
    error: str = ""
    seconds: float = 0.0
    """Until it answered."""
    member_id: int = 0
    version: str = ""
    db_size: int = 0
    """Bytes on its disk."""
    db_used: int = 0
    """Bytes of these that hold something; the others are free after `defragment`."""
    leader: int = 0
    """The id of the member that leads, 0 where there is no majority."""
    raft_term: int = 0
    raft_index: int = 0
    raft_applied: int = 0
    learner: bool = False
    errors: tuple[str, ...] = ()

    @property
    def answers(self) -> bool:
        return not self.error


class Alarm(NamedTuple):
    member_id: int
    kind: str
    """"nospace": it takes no more writes until it was compacted and defragmented; "corrupt"."""


_OF_MEMBERS = (
    messages.MEMBER_ADD,
    messages.MEMBER_PROMOTE,
    messages.MEMBER_REMOVE,
    messages.MEMBER_UPDATE,
)
_ALARMS = {1: "nospace", 2: "corrupt"}
_DISARM = 2


class Admin:
    """With a client whose certificate says "root". What is so already is no error. Thread-safe.

    Raises EtcdError where nobody answers, and Denied for any other user.
    """

    def __init__(self, client: Client) -> None:
        self._calls = client.calls

    # Members.

    def members(self) -> list[Member]:
        """As one of them knows them: there need be no majority."""
        answer = self._calls.ask(
            messages.MEMBER_LIST, messages.MEMBER_LIST.request(), "list members", leader=False
        )
        return [_member(each) for each in answer.members]

    def add_member(self, peer_urls: Sequence[str], *, learner: bool = False) -> Member:
        """Known from now on, so that it can be started. Raises Conflict where too few of the others run."""
        try:
            answer = self._change(
                messages.MEMBER_ADD,
                f"add the member {', '.join(peer_urls)}",
                peerURLs=list(peer_urls),
                isLearner=learner,
            )
        except Conflict as error:
            known = [each for each in self.members() if set(each.peer_urls) & set(peer_urls)]
            if "exist" not in str(error) or not known:
                raise
            return known[0]
        return _member(answer.member)

    def promote_member(self, member_id: int) -> None:
        """A learner gets a vote. Raises Conflict as long as it has not caught up with the leader."""
        try:
            self._change(messages.MEMBER_PROMOTE, f"promote the member {member_id:x}", ID=member_id)
        except Conflict as error:
            if not any(each.id == member_id and not each.learner for each in self.members()):
                raise error

    def remove_member(self, member_id: int) -> None:
        """Raises Conflict where the others would have no majority then."""
        with suppress(NotFound):
            self._change(messages.MEMBER_REMOVE, f"remove the member {member_id:x}", ID=member_id)

    def update_member(self, member_id: int, peer_urls: Sequence[str]) -> None:
        """Its peers find it elsewhere. Raises NotFound."""
        self._change(
            messages.MEMBER_UPDATE,
            f"change the member {member_id:x}",
            ID=member_id,
            peerURLs=list(peer_urls),
        )

    # State.

    def status(self, endpoints: Sequence[str] = (), seconds: float = 1.0) -> list[MemberStatus]:
        """Of each endpoint (the client's by default), in that order, asked all at once."""
        connections = [self._connect(each) for each in endpoints or self._calls.members.endpoints]
        began = time.monotonic()
        request = messages.STATUS.request()
        try:
            asked = [each.begin(messages.STATUS, request, seconds, leader=False) for each in connections]
            return [
                _status(connection.endpoint, future, began)
                for connection, future in zip(connections, asked, strict=True)
            ]
        finally:
            for connection in connections:
                connection.close()

    def alarms(self) -> list[Alarm]:
        answer = self._calls.ask(messages.ALARM, messages.ALARM.request(), "list alarms")
        return [Alarm(each.memberID, _ALARMS.get(each.alarm, "unknown")) for each in answer.alarms]

    def disarm(self) -> None:
        """End all alarms; they come back where their cause has not gone."""
        for each in self._calls.ask(messages.ALARM, messages.ALARM.request(), "list alarms").alarms:
            self._change(
                messages.ALARM, "end an alarm", action=_DISARM, memberID=each.memberID, alarm=each.alarm
            )

    def compact(self, revision: int) -> None:
        """Forget the history before `revision`. Raises Compacted where there is no such revision yet."""
        try:
            self._change(messages.COMPACT, f"compact to revision {revision}", revision=revision)
        except Compacted as error:
            if "future" in str(error):
                raise

    def defragment(self, endpoint: str, seconds: float = 60.0) -> None:
        """Give free space of this member's file back; it answers nobody meanwhile."""
        doing = f"defragment {endpoint}"
        connection = self._connect(endpoint)
        try:
            connection.call(messages.DEFRAGMENT, messages.DEFRAGMENT.request(), seconds, leader=False)
        except grpc.RpcError as error:
            raise refusal(judge(error), doing) from None
        finally:
            connection.close()

    def save_snapshot(self, path: Path, endpoint: str = "") -> Saved:
        """All of etcd's data, as one member has it, for `etcdctl snapshot restore`.

        Mode 0600; `path` is replaced when it is whole. Raises EtcdError where the member goes away meanwhile or the
        digest does not fit, and OSError for `path`.
        """
        connection = self._connect(endpoint or self._calls.members.current().endpoint)
        try:
            return backup.save(connection, path)
        finally:
            connection.close()

    # Users and roles.

    def auth_enabled(self) -> bool:
        """Whether certificates and roles matter."""
        try:
            self._ask(messages.AUTHENTICATE, "ask whether it has users", name="", password="")
        except Conflict:  # etcd 3.4 cannot be asked, but this is what it says where it has no authentication
            return False
        except Denied:
            return True
        raise EtcdError("etcd accepts a user without a name")

    def enable_auth(self) -> None:
        """From now on clients are who their certificates' common names say. Makes the user and the role root."""
        if not self.auth_enabled():
            self.add_user(ROOT)
            self.add_role(ROOT)
            self.grant_role(ROOT, ROOT)
            self._change(messages.AUTH_ENABLE, "enable authentication")

    def users(self) -> list[str]:
        return list(self._ask(messages.USER_LIST, "list users").users)

    def add_user(self, name: str) -> None:
        """Who shows a certificate with this common name: there is no password."""
        options = MESSAGES["UserAddOptions"](no_password=True)
        with _already():
            self._change(messages.USER_ADD, f"add the user {name}", name=name, options=options)

    def delete_user(self, name: str) -> None:
        with suppress(NotFound):
            self._change(messages.USER_DELETE, f"delete the user {name}", name=name)

    def roles_of(self, user: str) -> list[str]:
        """Raises NotFound."""
        return list(self._ask(messages.USER_GET, f"look at the user {user}", name=user).roles)

    def grant_role(self, user: str, role: str) -> None:
        """Raises NotFound for either."""
        self._change(messages.USER_GRANT_ROLE, f"give {user} the role {role}", user=user, role=role)

    def roles(self) -> list[str]:
        return list(self._ask(messages.ROLE_LIST, "list roles").roles)

    def add_role(self, name: str) -> None:
        with _already():
            self._change(messages.ROLE_ADD, f"add the role {name}", name=name)

    def delete_role(self, name: str) -> None:
        """Users that had it lose it."""
        with suppress(NotFound):
            self._change(messages.ROLE_DELETE, f"delete the role {name}", role=name)

    def permissions(self, role: str) -> list[Permission]:
        """Raises NotFound."""
        answer = self._ask(messages.ROLE_GET, f"look at the role {role}", role=role)
        return [_permission(each) for each in answer.perm]

    def grant(self, role: str, permission: Permission) -> None:
        """Replaces what the role may do with the same keys. Raises NotFound."""
        perm = MESSAGES["Permission"](
            permType=permission.access.value, **codec.key_range(permission.key, permission.prefix)
        )
        self._change(messages.ROLE_GRANT_PERMISSION, f"let {role} use {permission.key}", name=role, perm=perm)

    def revoke(self, role: str, permission: Permission) -> None:
        """Whatever the role may do with just these keys. Raises NotFound where there is no such role."""
        keys = codec.key_range(permission.key, permission.prefix)
        with _already("permission is not granted"):
            self._change(
                messages.ROLE_REVOKE_PERMISSION, f"keep {role} from {permission.key}", role=role, **keys
            )

    def _ask(self, method: Method, doing: str, **fields: Any) -> Any:
        return self._calls.ask(method, method.request(**fields), doing, seconds=_CHANGE_SECONDS)

    def _change(self, method: Method, doing: str, **fields: Any) -> Any:
        request = method.request(**fields)
        seconds = _MEMBER_SECONDS if method in _OF_MEMBERS else _CHANGE_SECONDS
        return self._calls.ask(method, request, doing, Effect.SAME, seconds=seconds)

    def _connect(self, endpoint: str) -> Connection:
        return self._calls.members.connect(endpoint)


@contextmanager
def _already(words: str = "already exists") -> Iterator[None]:
    """It is as it should be, if that is what etcd says."""
    try:
        yield
    except Conflict as error:
        if words not in str(error):
            raise


def _member(found: Any) -> Member:
    return Member(found.ID, found.name, list(found.peerURLs), list(found.clientURLs), found.isLearner)


def _status(endpoint: str, future: Any, began: float) -> MemberStatus:
    try:
        said = future.result()
    except grpc.RpcError as error:
        return MemberStatus(endpoint, judge(error).text)
    return MemberStatus(
        endpoint=endpoint,
        seconds=time.monotonic() - began,
        member_id=said.header.member_id,
        version=said.version,
        db_size=said.dbSize,
        db_used=said.dbSizeInUse,
        leader=said.leader,
        raft_term=said.raftTerm,
        raft_index=said.raftIndex,
        raft_applied=said.raftAppliedIndex,
        learner=said.isLearner,
        errors=tuple(said.errors),
    )


def _permission(found: Any) -> Permission:
    """Ranges that are no prefix's are not made by us; they are shown as the key that they begin with."""
    everything = found.key == b"\0" and found.range_end == b"\0"
    prefix = everything or (bool(found.range_end) and found.range_end == codec.range_end(found.key))
    return Permission("" if everything else codec.key_text(found.key), Access(found.permType), prefix)

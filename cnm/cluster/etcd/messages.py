"""The part of etcd's gRPC interface that we speak: its messages and methods, made when this is imported.

Nothing is generated, so that no version of protobuf's compiler must fit the one that is installed. Names and numbers of
fields are etcd's (rpc.proto, kv.proto and auth.proto of etcd 3.4 to 3.6); what is not listed is passed over when it is
received. This import loads protobuf, which costs some 8 MB.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_SCALARS = ("int64", "uint64", "int32", "bool", "bytes", "string")
_FIELD = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "cnm.etcd"

_HEADER = "header:ResponseHeader=1"
_MEMBERS = f"{_HEADER} members:Member*=2"

_SHAPES = {
    "KeyValue": "key:bytes=1 create_revision:int64=2 mod_revision:int64=3 version:int64=4 value:bytes=5 lease:int64=6",
    "Event": "type:int32=1 kv:KeyValue=2",
    "ResponseHeader": "member_id:uint64=2 revision:int64=3",
    "RangeRequest": "key:bytes=1 range_end:bytes=2 limit:int64=3 revision:int64=4 serializable:bool=7",
    "RangeResponse": f"{_HEADER} kvs:KeyValue*=2 more:bool=3",
    "PutRequest": "key:bytes=1 value:bytes=2 lease:int64=3",
    "PutResponse": _HEADER,
    "DeleteRangeRequest": "key:bytes=1 range_end:bytes=2",
    "DeleteRangeResponse": f"{_HEADER} deleted:int64=2",
    "RequestOp": "|request_range:RangeRequest=1 |request_put:PutRequest=2 |request_delete_range:DeleteRangeRequest=3",
    "ResponseOp": "|response_range:RangeResponse=1",
    "Compare": "result:int32=1 target:int32=2 key:bytes=3 |create_revision:int64=5"
    " |mod_revision:int64=6 |value:bytes=7 |lease:int64=8 range_end:bytes=64",
    "TxnRequest": "compare:Compare*=1 success:RequestOp*=2 failure:RequestOp*=3",
    "TxnResponse": f"{_HEADER} succeeded:bool=2 responses:ResponseOp*=3",
    "CompactionRequest": "revision:int64=1",
    "CompactionResponse": _HEADER,
    "WatchCreateRequest": "key:bytes=1 range_end:bytes=2 start_revision:int64=3 progress_notify:bool=4"
    " watch_id:int64=7 fragment:bool=8",
    "WatchCancelRequest": "watch_id:int64=1",
    "WatchProgressRequest": "",
    "WatchRequest": "|create_request:WatchCreateRequest=1 |cancel_request:WatchCancelRequest=2"
    " |progress_request:WatchProgressRequest=3",
    "WatchResponse": f"{_HEADER} watch_id:int64=2 created:bool=3 canceled:bool=4 compact_revision:int64=5"
    " cancel_reason:string=6 fragment:bool=7 events:Event*=11",
    "LeaseGrantRequest": "TTL:int64=1 ID:int64=2",
    "LeaseGrantResponse": f"{_HEADER} ID:int64=2 TTL:int64=3",
    "LeaseRevokeRequest": "ID:int64=1",
    "LeaseRevokeResponse": _HEADER,
    "LeaseKeepAliveRequest": "ID:int64=1",
    "LeaseKeepAliveResponse": f"{_HEADER} ID:int64=2 TTL:int64=3",
    "Member": "ID:uint64=1 name:string=2 peerURLs:string*=3 clientURLs:string*=4 isLearner:bool=5",
    "MemberAddRequest": "peerURLs:string*=1 isLearner:bool=2",
    "MemberAddResponse": f"{_HEADER} member:Member=2 members:Member*=3",
    "MemberRemoveRequest": "ID:uint64=1",
    "MemberRemoveResponse": _MEMBERS,
    "MemberUpdateRequest": "ID:uint64=1 peerURLs:string*=2",
    "MemberUpdateResponse": _MEMBERS,
    "MemberListRequest": "",
    "MemberListResponse": _MEMBERS,
    "MemberPromoteRequest": "ID:uint64=1",
    "MemberPromoteResponse": _MEMBERS,
    "StatusRequest": "",
    "StatusResponse": f"{_HEADER} version:string=2 dbSize:int64=3 leader:uint64=4 raftIndex:uint64=5 raftTerm:uint64=6"
    " raftAppliedIndex:uint64=7 errors:string*=8 dbSizeInUse:int64=9 isLearner:bool=10",
    "AlarmRequest": "action:int32=1 memberID:uint64=2 alarm:int32=3",
    "AlarmMember": "memberID:uint64=1 alarm:int32=2",
    "AlarmResponse": f"{_HEADER} alarms:AlarmMember*=2",
    "DefragmentRequest": "",
    "DefragmentResponse": _HEADER,
    "SnapshotRequest": "",
    "SnapshotResponse": f"{_HEADER} blob:bytes=3",
    "AuthEnableRequest": "",
    "AuthEnableResponse": _HEADER,
    "AuthenticateRequest": "name:string=1 password:string=2",
    "AuthenticateResponse": _HEADER,
    "UserAddOptions": "no_password:bool=1",
    "AuthUserAddRequest": "name:string=1 options:UserAddOptions=3",
    "AuthUserAddResponse": _HEADER,
    "AuthUserGetRequest": "name:string=1",
    "AuthUserGetResponse": f"{_HEADER} roles:string*=2",
    "AuthUserListRequest": "",
    "AuthUserListResponse": f"{_HEADER} users:string*=2",
    "AuthUserDeleteRequest": "name:string=1",
    "AuthUserDeleteResponse": _HEADER,
    "AuthUserGrantRoleRequest": "user:string=1 role:string=2",
    "AuthUserGrantRoleResponse": _HEADER,
    "Permission": "permType:int32=1 key:bytes=2 range_end:bytes=3",
    "AuthRoleAddRequest": "name:string=1",
    "AuthRoleAddResponse": _HEADER,
    "AuthRoleGetRequest": "role:string=1",
    "AuthRoleGetResponse": f"{_HEADER} perm:Permission*=2",
    "AuthRoleListRequest": "",
    "AuthRoleListResponse": f"{_HEADER} roles:string*=2",
    "AuthRoleDeleteRequest": "role:string=1",
    "AuthRoleDeleteResponse": _HEADER,
    "AuthRoleGrantPermissionRequest": "name:string=1 perm:Permission=2",
    "AuthRoleGrantPermissionResponse": _HEADER,
    "AuthRoleRevokePermissionRequest": "role:string=1 key:bytes=2 range_end:bytes=3",
    "AuthRoleRevokePermissionResponse": _HEADER,
}
"""Messages by name: NAME:TYPE=NUMBER, `*` where it is repeated, `|` before the alternatives of a message's one union.

Enums are int32, which looks the same on the wire.
"""


def _file() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="cnm/etcd.proto", package=_PACKAGE, syntax="proto3")
    for name, shape in _SHAPES.items():
        message = file.message_type.add(name=name)
        if "|" in shape:
            message.oneof_decl.add(name="union")
        for text in shape.split():
            _add_field(message, text)
    return file


def _add_field(message: Any, text: str) -> None:
    name, _, rest = text.lstrip("|").partition(":")
    kind, _, number = rest.partition("=")
    label = _FIELD.LABEL_REPEATED if kind.endswith("*") else _FIELD.LABEL_OPTIONAL
    field = message.field.add(name=name, number=int(number), label=label)
    if (kind := kind.rstrip("*")) in _SCALARS:
        field.type = getattr(_FIELD, f"TYPE_{kind.upper()}")
    else:
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    if text.startswith("|"):
        field.oneof_index = 0


def _classes() -> dict[str, Any]:
    """In a pool of their own: another library of this process may know etcd's messages, too."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _SHAPES
    }


MESSAGES = _classes()
"""The class of each message, by its name."""


class Method(NamedTuple):
    """One remote procedure."""

    path: str
    request: Any
    """The class of what is sent."""
    response: Any


def _method(service: str, name: str, messages: str = "") -> Method:
    """`messages`: what the names of its request and response begin with, where it is not the procedure's name."""
    begin = messages or name
    return Method(
        f"/etcdserverpb.{service}/{name}", MESSAGES[f"{begin}Request"], MESSAGES[f"{begin}Response"]
    )


RANGE = _method("KV", "Range")
PUT = _method("KV", "Put")
DELETE_RANGE = _method("KV", "DeleteRange")
TXN = _method("KV", "Txn")
COMPACT = _method("KV", "Compact", "Compaction")
WATCH = _method("Watch", "Watch")
LEASE_GRANT = _method("Lease", "LeaseGrant")
LEASE_REVOKE = _method("Lease", "LeaseRevoke")
LEASE_KEEP_ALIVE = _method("Lease", "LeaseKeepAlive")
MEMBER_ADD = _method("Cluster", "MemberAdd")
MEMBER_REMOVE = _method("Cluster", "MemberRemove")
MEMBER_UPDATE = _method("Cluster", "MemberUpdate")
MEMBER_LIST = _method("Cluster", "MemberList")
MEMBER_PROMOTE = _method("Cluster", "MemberPromote")
STATUS = _method("Maintenance", "Status")
ALARM = _method("Maintenance", "Alarm")
DEFRAGMENT = _method("Maintenance", "Defragment")
SNAPSHOT = _method("Maintenance", "Snapshot")
AUTH_ENABLE = _method("Auth", "AuthEnable")
AUTHENTICATE = _method("Auth", "Authenticate")
USER_ADD = _method("Auth", "UserAdd", "AuthUserAdd")
USER_GET = _method("Auth", "UserGet", "AuthUserGet")
USER_LIST = _method("Auth", "UserList", "AuthUserList")
USER_DELETE = _method("Auth", "UserDelete", "AuthUserDelete")
USER_GRANT_ROLE = _method("Auth", "UserGrantRole", "AuthUserGrantRole")
ROLE_ADD = _method("Auth", "RoleAdd", "AuthRoleAdd")
ROLE_GET = _method("Auth", "RoleGet", "AuthRoleGet")
ROLE_LIST = _method("Auth", "RoleList", "AuthRoleList")
ROLE_DELETE = _method("Auth", "RoleDelete", "AuthRoleDelete")
ROLE_GRANT_PERMISSION = _method("Auth", "RoleGrantPermission", "AuthRoleGrantPermission")
ROLE_REVOKE_PERMISSION = _method("Auth", "RoleRevokePermission", "AuthRoleRevokePermission")

"""The SQLite file: one table a noun, one row an object, its record as JSON.

WAL with two strengths of commit: definitions (networks, sandboxes, endpoints at rest) wait for the disk; live state
of endpoints does not, since a power cut takes the kernel's state along. Either way a killed process loses nothing.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from cnm.endpoint import Endpoint
from cnm.errors import CnmError, Conflict
from cnm.lease import LeasedAddress, LeasedPool
from cnm.network import Network
from cnm.sandbox import Sandbox
from cnm.store.reserve import Reserve

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x636E6D64
"""In the file's header, "cnmd" in ASCII: other programs keep SQLite files, too."""

Noun = Network | Sandbox | Endpoint | LeasedPool | LeasedAddress
_N = TypeVar("_N", Network, Sandbox, Endpoint, LeasedPool, LeasedAddress)

_Statement = tuple[str, tuple[str | bytes, ...]]
_TABLES: dict[type, str] = {
    Network: "network",
    Sandbox: "sandbox",
    Endpoint: "endpoint",
    LeasedPool: "leased_pool",
    LeasedAddress: "leased_address",
}
_SCHEMA = "".join(
    f"CREATE TABLE IF NOT EXISTS {table} (id TEXT PRIMARY KEY, record BLOB NOT NULL) WITHOUT ROWID;"
    for table in (*_TABLES.values(), "setting")
)


class Store:
    """The file `path`, held by one process at a time. Thread-safe."""

    def __init__(self, path: str) -> None:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        self._path = path
        self._lock = threading.Lock()
        self._encode = msgspec.json.Encoder().encode
        self._reserve = Reserve(f"{path}-reserve")
        try:
            self._connection = self._opened()
        except sqlite3.OperationalError as error:
            if _is_full(error):
                raise CnmError(f"cannot open {path}: {error}: make room") from None
            raise Conflict(
                f"cannot open {path}: {error}; is another cnmd using this root directory?"
            ) from None
        except sqlite3.DatabaseError as error:
            raise CnmError(f"{path} is not a store of cnmd: {error}; move it away to start afresh") from None
        self._durable = True
        self._reserve.fill()

    def _opened(self) -> sqlite3.Connection:
        """On a full disk, too, as long as the reserve lasts."""
        while True:
            try:
                return _open(self._path)
            except sqlite3.OperationalError as error:
                if not _is_full(error) or not self._reserve.give_up():
                    raise

    def close(self) -> None:
        self._connection.close()

    def load(self, noun: type[_N]) -> list[_N]:
        """All objects of one noun, in the order of their ids."""
        rows = self._connection.execute(f"SELECT record FROM {_TABLES[noun]} ORDER BY id")
        decoder = msgspec.json.Decoder(noun)
        return [decoder.decode(record) for (record,) in rows]

    def commit(self, put: Iterable[Noun] = (), delete: Iterable[Noun] = (), *, durable: bool) -> None:
        """Write and delete objects in one transaction; with `durable` it is on the disk when this returns.

        On a full disk there is a reserve for what brings no new object, so that something can go to make room.
        Raises CnmError when the file cannot be written; nothing was then.
        """
        put = list(put)
        statements = [*map(self._insertion, put), *map(_deletion, delete)]
        with self._lock:
            room = self._room(put)
            while True:
                try:
                    self._write(statements, durable)
                    break
                except sqlite3.Error as error:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    if not (_is_full(error) and next(room, False)):
                        raise CnmError(f"cannot write {self._path}: {error}; nothing was changed") from None
            if not self._reserve.is_whole:
                self._reserve.fill()

    def _room(self, put: Iterable[Noun]) -> Iterator[bool]:
        """Makes some on a full disk: first the log begins anew, where it has its room already, then by the reserve."""
        may_take = self._has_all(put)
        while not self._has_begun_anew() and may_take and self._reserve.give_up():
            pass
        yield True
        while may_take and self._reserve.give_up():
            yield True

    def _has_begun_anew(self) -> bool:
        """The log, since all of it is in the database now, for which there may be no room either."""
        with contextlib.suppress(sqlite3.Error):
            (is_busy, *_) = self._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
            return not is_busy
        return False

    def _has_all(self, nouns: Iterable[Noun]) -> bool:
        """Whether none of them is new."""
        queries = ((f"SELECT 1 FROM {_TABLES[type(noun)]} WHERE id = ?", noun.id) for noun in nouns)
        return all(self._connection.execute(query, (ident,)).fetchone() for query, ident in queries)

    def _write(self, statements: Sequence[_Statement], durable: bool) -> None:
        """A statement alone is a transaction of its own."""
        self._set_durable(durable)
        if len(statements) == 1:
            self._connection.execute(*statements[0])
            return
        self._connection.execute("BEGIN IMMEDIATE")
        for statement, values in statements:
            self._connection.execute(statement, values)
        self._connection.execute("COMMIT")

    def _insertion(self, noun: Noun) -> _Statement:
        statement = f"INSERT OR REPLACE INTO {_TABLES[type(noun)]} VALUES (?, ?)"
        return statement, (noun.id, self._encode(noun))

    def setting(self, key: str) -> str | None:
        """A value that the daemon remembers of this host."""
        row = self._connection.execute("SELECT record FROM setting WHERE id = ?", (key,)).fetchone()
        return str(row[0]) if row else None

    def remember(self, key: str, value: str) -> None:
        with self._lock:
            self._set_durable(True)
            self._connection.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (key, value))

    def _set_durable(self, durable: bool) -> None:
        if durable != self._durable:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._durable = durable


def _deletion(noun: Noun) -> _Statement:
    return f"DELETE FROM {_TABLES[type(noun)]} WHERE id = ?", (noun.id,)


def _is_full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _open(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1)
    try:
        _prepare(path, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(path: str, connection: sqlite3.Connection) -> None:
    # Held from the first write until the process ends, so that two daemons never share a root directory.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    _check_ours(path, connection)
    os.chmod(path, 0o600)
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.executescript(_SCHEMA)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _check_ours(path: str, connection: sqlite3.Connection) -> None:
    """Raises CnmError for the database of another program, or of a cnmd that knows more than this one."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != _APPLICATION_ID:
        raise CnmError(f"{path} is a database of another program: move it away, or use another --root")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise CnmError(
            f"{path} was written by a newer cnmd (schema {version}): upgrade, or use another --root"
        )

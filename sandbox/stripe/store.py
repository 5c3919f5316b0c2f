"""One SQLite file that holds everything: objects, idempotency keys, webhooks, the clock.

What a transaction wrote survives `kill -9`: it is in the operating system's hands by then. It need
not survive a power cut, so nothing waits for the disk (`synchronous = OFF`); a rollback journal
instead of a write-ahead log keeps the state one file.
"""

import copy
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

Json = dict[str, Any]

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS objects (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    object TEXT NOT NULL,
    created INTEGER NOT NULL,
    body TEXT NOT NULL,
    hidden TEXT NOT NULL DEFAULT '{}',
    account TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS objects_newest ON objects (object, created, seq);
CREATE INDEX IF NOT EXISTS objects_customer ON objects (object, json_extract(body, '$.customer'));
CREATE INDEX IF NOT EXISTS objects_payment_intent
    ON objects (object, json_extract(body, '$.payment_intent'));
CREATE INDEX IF NOT EXISTS objects_invoice ON objects (object, json_extract(body, '$.invoice'));
CREATE INDEX IF NOT EXISTS objects_type ON objects (object, json_extract(body, '$.type'));
CREATE INDEX IF NOT EXISTS objects_expiring ON objects (json_extract(body, '$.expires_at'))
    WHERE object = 'checkout.session' AND json_extract(body, '$.status') = 'open';
CREATE TABLE IF NOT EXISTS idempotency_keys (
    key TEXT PRIMARY KEY,
    endpoint TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    status INTEGER NOT NULL,
    answer BLOB NOT NULL,
    request_id TEXT NOT NULL,
    created INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    due REAL NOT NULL,
    UNIQUE (event, endpoint)
);
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (due) WHERE state = 'pending';
CREATE TABLE IF NOT EXISTS delivery_attempts (
    delivery INTEGER NOT NULL REFERENCES deliveries (id),
    number INTEGER NOT NULL,
    at REAL NOT NULL,
    status INTEGER,
    error TEXT,
    PRIMARY KEY (delivery, number)
);
CREATE TABLE IF NOT EXISTS delivery_faults (
    delivery INTEGER PRIMARY KEY REFERENCES deliveries (id),
    again INTEGER NOT NULL,
    rank REAL
);
CREATE TABLE IF NOT EXISTS faults (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    wish BLOB NOT NULL,
    skipped INTEGER NOT NULL DEFAULT 0,
    used INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""

ADD_ACCOUNT: Final = "ALTER TABLE objects ADD COLUMN account TEXT NOT NULL DEFAULT ''"
_OPERATORS: Final = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


class Store:
    """Objects by id and in Stripe's order, newest first: those of one account.

    `account` is empty for the platform itself. A connected account's objects are in a view of their
    own, `of(account)`: https://docs.stripe.com/connect/authentication. Everything but objects is
    shared. Not for use from several threads or processes at once.
    """

    def __init__(self, path: Path) -> None:
        self.account = ""
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        # One process owns the file; holding the lock spares a look at the journal per statement.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = TRUNCATE")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.executescript(SCHEMA)
        columns = self._db.execute("SELECT name FROM pragma_table_info('objects')")
        if "account" not in {column["name"] for column in columns}:
            self._db.execute(ADD_ACCOUNT)

    def close(self) -> None:
        """Release the file and take its empty journal away."""
        self._db.execute("PRAGMA journal_mode = DELETE")
        self._db.close()

    def of(self, account: str) -> "Store":
        """Return the view of a connected account, or of the platform for an empty name."""
        view = copy.copy(self)
        view.account = account
        return view

    def about(self, object_id: str) -> "Store":
        """Return the view of the account that an object is in; the platform's if there is none."""
        row = self._db.execute("SELECT account FROM objects WHERE id = ?", (object_id,)).fetchone()
        return self.of("" if row is None else row["account"])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit on the way out, roll back on an exception."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Undo what was written inside on an exception, and leave the transaction usable."""
        self._db.execute("SAVEPOINT act")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK TO act")
            raise
        finally:
            self._db.execute("RELEASE act")

    def execute(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run one statement of the module that owns the table."""
        return self._db.execute(sql, values)

    def add(self, body: Json, hidden: Json | None = None) -> Json:
        """Keep a new object; `hidden` is what the simulator knows and no answer shows."""
        self._db.execute(
            "INSERT INTO objects (id, object, created, body, hidden, account) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (
                body["id"],
                body["object"],
                body.get("created", 0),
                _encode(body),
                _encode(hidden or {}),
                self.account,
            ),
        )
        return body

    def save(self, body: Json) -> Json:
        """Keep the changed object; what is hidden stays."""
        self._db.execute("UPDATE objects SET body = ? WHERE id = ?", (_encode(body), body["id"]))
        return body

    def get(self, object_id: str) -> Json | None:
        """Read one object of any kind."""
        row = self._db.execute(
            "SELECT body FROM objects WHERE id = ? AND account = ?", (object_id, self.account)
        ).fetchone()
        return None if row is None else _decode(row["body"])

    def hidden(self, object_id: str) -> Json:
        """Read what is kept beside an object."""
        row = self._db.execute("SELECT hidden FROM objects WHERE id = ?", (object_id,)).fetchone()
        return {} if row is None else _decode(row["hidden"])

    def hide(self, object_id: str, **values: Any) -> None:
        """Add to what is kept beside an object."""
        merged = {**self.hidden(object_id), **values}
        self._db.execute("UPDATE objects SET hidden = ? WHERE id = ?", (_encode(merged), object_id))

    def remove(self, object_id: str) -> None:
        """Forget an object."""
        self._db.execute("DELETE FROM objects WHERE id = ?", (object_id,))

    def place(self, kind: str, object_id: str) -> tuple[int, int] | None:
        """Find where an object stands in its list: a cursor for `find`."""
        row = self._db.execute(
            "SELECT created, seq FROM objects WHERE object = ? AND id = ? AND account = ?",
            (kind, object_id, self.account),
        ).fetchone()
        return None if row is None else (row["created"], row["seq"])

    def find(
        self,
        kind: str,
        limit: int,
        *,
        equal: Mapping[str, str] | None = None,
        types: Sequence[str] = (),
        created: Mapping[str, int] | None = None,
        after: tuple[int, int] | None = None,
        before: tuple[int, int] | None = None,
    ) -> list[Json]:
        """List objects newest first; with `before`, the `limit` that are just newer than it.

        `equal` names top-level fields and their values; `types` are event types, a `*` at the end
        stands for anything.
        """
        where = ["object = ?", "account = ?"]
        values = [kind, self.account, *([] if equal is None else equal.values())]
        where += [f"json_extract(body, '$.{field}') = ?" for field in equal or {}]
        if types:
            alternatives = ["json_extract(body, '$.type') GLOB ?"] * len(types)
            where.append(f"({' OR '.join(alternatives)})")
            values += types
        for name, moment in (created or {}).items():
            where.append(f"created {_OPERATORS[name]} {moment:d}")
        for place, sign in ((after, "<"), (before, ">")):
            if place is not None:
                where.append(f"(created, seq) {sign} ({place[0]:d}, {place[1]:d})")
        way = "ASC" if before is not None else "DESC"
        # Field names come from our own endpoints, numbers are formatted as integers.
        sql = (
            f"SELECT body FROM objects WHERE {' AND '.join(where)} "  # noqa: S608
            f"ORDER BY created {way}, seq {way} LIMIT {limit:d}"
        )
        found = [_decode(row["body"]) for row in self._db.execute(sql, values)]
        return found[::-1] if before is not None else found

    def setting(self, name: str) -> str | None:
        """Read one value about the simulator itself, such as its clock."""
        row = self._db.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row["value"])

    def set(self, name: str, value: str) -> None:
        """Keep one value about the simulator itself."""
        self._db.execute(
            "INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)", (name, value)
        )


def _encode(value: Json) -> str:
    return msgspec.json.encode(value).decode()


def _decode(text: str) -> Json:
    decoded: Json = msgspec.json.decode(text)
    return decoded

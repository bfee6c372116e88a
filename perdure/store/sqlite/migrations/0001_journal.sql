-- The journal itself. `pos` is the order of all commits of the store; rows are only ever added (and a payload set to
-- null when it is erased).
CREATE TABLE events (
    pos INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    header BLOB NOT NULL,
    salt BLOB NOT NULL,
    payload BLOB
) STRICT;

CREATE UNIQUE INDEX events_by_run ON events (run, seq);

-- One row a run: what is needed to find it and to decide who executes it. `woken`: another run made it due while
-- somebody owned it.
CREATE TABLE runs (
    number INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL UNIQUE,
    workflow TEXT NOT NULL,
    version TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    base_seq INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    owner TEXT,
    woken INTEGER NOT NULL DEFAULT 0,
    parent_id TEXT,
    caller_owned INTEGER NOT NULL,
    tags TEXT
) STRICT;

CREATE INDEX runs_by_age ON runs (created_ms, run_id);
CREATE INDEX runs_by_status ON runs (status, created_ms, run_id);
CREATE INDEX runs_by_workflow ON runs (workflow, created_ms, run_id);
CREATE INDEX runs_by_parent ON runs (parent_id, created_ms, run_id) WHERE parent_id IS NOT NULL;
CREATE INDEX runs_by_owner ON runs (owner) WHERE owner IS NOT NULL;
CREATE INDEX runs_due ON runs (workflow, due_ms) WHERE owner IS NULL AND caller_owned = 0;

CREATE TABLE tags (
    tag TEXT NOT NULL,
    run INTEGER NOT NULL,
    PRIMARY KEY (tag, run)
) STRICT, WITHOUT ROWID;

-- Open waits only; `number` keeps the order in which they opened.
CREATE TABLE waits (
    number INTEGER PRIMARY KEY,
    run INTEGER NOT NULL,
    wait_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    key TEXT,
    deadline_ms INTEGER,
    UNIQUE (run, wait_id)
) STRICT;

CREATE INDEX waits_by_name ON waits (kind, name);

CREATE TABLE artifacts (
    number INTEGER PRIMARY KEY,
    sha256 BLOB NOT NULL UNIQUE,
    media_type TEXT NOT NULL,
    data BLOB NOT NULL
) STRICT;

CREATE TABLE workers (
    worker_id TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    lease_end_ms INTEGER NOT NULL,
    started_ms INTEGER NOT NULL,
    draining INTEGER NOT NULL,
    workflows TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- `settled` counts the commits that were made only to settle an earlier one whose outcome was not known.
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value ANY
) STRICT, WITHOUT ROWID;

INSERT INTO meta (name, value) VALUES ('settled', 0);

"""Owns the schema of the catalog. A new one is made from it, an older one reaches it by `migrations.py`."""

from __future__ import annotations

import sqlite3
from typing import Final

CURRENT: Final = """
-- How far into the manifest log this catalog has come. Exactly one row. Bytes of the segment beyond `offset` are
-- records that were logged but not committed here; whoever writes next applies them first.
CREATE TABLE position (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    store_id BLOB NOT NULL CHECK (length(store_id) = 16),
    segment INTEGER NOT NULL,           -- names the file manifests/<segment, 20 digits>.log
    offset INTEGER NOT NULL,            -- bytes of it that are applied
    seq INTEGER NOT NULL                -- sequence number of the last record applied
);

-- Next ids to hand out. Ids are never reused.
CREATE TABLE counters (
    name TEXT PRIMARY KEY CHECK (name IN ('inode', 'blob')),
    next INTEGER NOT NULL CHECK (next > 0)
) WITHOUT ROWID;

-- Immutable files of frames: packs/<name in hex>.pack
CREATE TABLE packs (
    id INTEGER PRIMARY KEY,
    name BLOB NOT NULL UNIQUE CHECK (length(name) = 16),
    nbytes INTEGER NOT NULL CHECK (nbytes > 0)
);

-- Byte strings that are kept once. A blob with a base is coded against a view of it: base_nbytes bytes of it from
-- base_offset on, cast to another type if base_cast says so. A base is itself coded standalone, which is checked when a
-- transaction ends: blobs and bases change places, and a log that is applied late may pass through states in which one
-- has moved and the other has not.
CREATE TABLE blobs (
    id INTEGER PRIMARY KEY CHECK (id > 0),
    nbytes INTEGER NOT NULL CHECK (nbytes > 0),
    fingerprint BLOB NOT NULL CHECK (length(fingerprint) = 16),     -- XXH3-128 of the raw bytes; finds candidates only
    dtype TEXT NOT NULL,                                            -- '' for plain bytes
    shape TEXT NOT NULL,                                            -- JSON list
    base_id INTEGER REFERENCES blobs (id) CHECK (base_id <> id),
    base_offset INTEGER NOT NULL DEFAULT 0 CHECK (base_offset >= 0),
    pack_id INTEGER NOT NULL REFERENCES packs (id),
    pack_offset INTEGER NOT NULL CHECK (pack_offset >= 0),
    stored_nbytes INTEGER NOT NULL CHECK (stored_nbytes > 0),
    frames BLOB NOT NULL CHECK (length(frames) % 4 = 0),            -- stored length of each frame, u32 little-endian
    base_nbytes INTEGER CHECK ((base_nbytes > 0) = (base_id IS NOT NULL)),
    base_cast TEXT NOT NULL DEFAULT ''                              -- '' or 'F32>BF16': from what to what
);
CREATE INDEX blobs_by_fingerprint ON blobs (fingerprint);
CREATE INDEX blobs_by_pack ON blobs (pack_id);
CREATE INDEX blobs_by_base ON blobs (base_id) WHERE base_id IS NOT NULL;
-- Tensors that can be compared, and those of them that can be bases.
CREATE INDEX blobs_by_size ON blobs (dtype, nbytes, base_id) WHERE dtype <> '';

-- Sampled values by which the size of one tensor against another is predicted. Of a tensor of one frame there is none:
-- they are read from the blob. Can be made anew from the blobs.
CREATE TABLE sketches (
    blob_id INTEGER PRIMARY KEY REFERENCES blobs (id) ON DELETE CASCADE,
    sketch BLOB NOT NULL
);

-- 256 bits by which tensors are found that may be related. Can be made anew from the blobs.
CREATE TABLE signatures (
    blob_id INTEGER PRIMARY KEY REFERENCES blobs (id) ON DELETE CASCADE,
    signature BLOB NOT NULL CHECK (length(signature) = 32)
);

-- Minhash samples, by which ranges of one tensor are found in another. Of a tensor of one frame that is coded
-- standalone there is none: it is read from the blob. Can be made anew from the blobs.
CREATE TABLE landmarks (
    blob_id INTEGER PRIMARY KEY REFERENCES blobs (id) ON DELETE CASCADE,
    landmarks BLOB NOT NULL
);

-- Index keys: the lowest hashes of the tensors that are coded standalone; who has them may be partly equal. Rows of
-- blobs that are gone mean nothing, because ids are never given again; a collection deletes them.
CREATE TABLE anchors (
    hash INTEGER NOT NULL,
    blob_id INTEGER NOT NULL,
    PRIMARY KEY (hash, blob_id)
) WITHOUT ROWID;

-- Files, directories, symlinks. `sum` guards the row, `layout_sum` the extents of the file. Rows from before atime_ns
-- was kept have none, and a `sum` without it.
CREATE TABLE inodes (
    id INTEGER PRIMARY KEY CHECK (id > 0),
    kind TEXT NOT NULL CHECK (kind IN ('file', 'dir', 'symlink')),
    state TEXT NOT NULL CHECK (state IN ('open', 'sealed', 'stored', 'none')),
    mode INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    gid INTEGER NOT NULL,
    nbytes INTEGER NOT NULL CHECK (nbytes >= 0),
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    target BLOB,                        -- of a symlink
    stored_nbytes INTEGER NOT NULL,     -- what storing this file added to the packs
    sha256 BLOB,                        -- of the content, once stored
    layout_sum INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    atime_ns INTEGER,                   -- when somebody last set it; reading leaves it alone. NULL: shown as the mtime
    spool_id INTEGER,                   -- what the spool file is called; NULL: as the inode
    CHECK ((kind = 'file') = (state <> 'none')),
    CHECK ((kind = 'symlink') = (target IS NOT NULL))
);
CREATE INDEX inodes_in_spool ON inodes (state) WHERE state IN ('open', 'sealed');

CREATE TABLE entries (
    parent_id INTEGER NOT NULL REFERENCES inodes (id),
    name BLOB NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    inode_id INTEGER NOT NULL REFERENCES inodes (id),
    area INTEGER NOT NULL CHECK (area IN (0, 1, 2)),    -- served, pending, lingering
    sum INTEGER NOT NULL,
    PRIMARY KEY (parent_id, name)
) WITHOUT ROWID;
CREATE INDEX entries_by_inode ON entries (inode_id, area);
CREATE INDEX entries_under_ingest ON entries (area) WHERE area <> 0;

CREATE TABLE xattrs (
    inode_id INTEGER NOT NULL REFERENCES inodes (id) ON DELETE CASCADE,
    name BLOB NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (inode_id, name)
) WITHOUT ROWID;

-- The content of stored files; the extents of a file tile it exactly.
CREATE TABLE extents (
    inode_id INTEGER NOT NULL REFERENCES inodes (id) ON DELETE CASCADE,
    offset INTEGER NOT NULL CHECK (offset >= 0),
    nbytes INTEGER NOT NULL CHECK (nbytes > 0),
    blob_id INTEGER NOT NULL REFERENCES blobs (id),
    blob_offset INTEGER NOT NULL CHECK (blob_offset >= 0),
    PRIMARY KEY (inode_id, offset)
) WITHOUT ROWID;
CREATE INDEX extents_by_blob ON extents (blob_id);

-- Why a file could not be sealed or compressed. It is served from the spool meanwhile and tried again.
CREATE TABLE failures (
    inode_id INTEGER PRIMARY KEY REFERENCES inodes (id) ON DELETE CASCADE,
    message TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    at_ns INTEGER NOT NULL
);
"""


def statements_of(script: str) -> list[str]:
    """Return the single statements of a script: `executescript` would commit the transaction that it runs in."""
    statements: list[str] = []
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements

"""Owns the migrations that bring the catalog of an older ZipFS to the schema of today, which `schema.py` has whole.

A migration is never edited once a release has shipped it; the next one is added below it, and what it does to
`schema.py` as well. Comments in these scripts are those of their time.
"""

from __future__ import annotations

from typing import Final

FIRST = """
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

-- Byte strings that are kept once.
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
    frames BLOB NOT NULL CHECK (length(frames) % 4 = 0)             -- stored length of each frame, u32 little-endian
);
CREATE INDEX blobs_by_fingerprint ON blobs (fingerprint);
CREATE INDEX blobs_by_pack ON blobs (pack_id);
CREATE INDEX blobs_by_base ON blobs (base_id) WHERE base_id IS NOT NULL;
CREATE INDEX bases_by_kind ON blobs (dtype, shape) WHERE base_id IS NULL AND dtype <> '';

-- A base is itself coded alone: a chain is never longer than one.
CREATE TRIGGER base_is_coded_alone BEFORE INSERT ON blobs WHEN NEW.base_id IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'a base must be coded alone')
    WHERE (SELECT base_id FROM blobs WHERE id = NEW.base_id) IS NOT NULL;
END;

-- Sampled values by which lineage predicts the size of one tensor against another. Can be made anew from the blobs.
CREATE TABLE sketches (
    blob_id INTEGER PRIMARY KEY REFERENCES blobs (id) ON DELETE CASCADE,
    sketch BLOB NOT NULL
);

-- Files, directories, symlinks. `sum` guards the row, `layout_sum` the extents of the file.
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
    CHECK ((kind = 'file') = (state <> 'none')),
    CHECK ((kind = 'symlink') = (target IS NOT NULL))
);
CREATE INDEX inodes_in_spool ON inodes (state) WHERE state IN ('open', 'sealed');

CREATE TABLE entries (
    parent_id INTEGER NOT NULL REFERENCES inodes (id),
    name BLOB NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    inode_id INTEGER NOT NULL REFERENCES inodes (id),
    area INTEGER NOT NULL CHECK (area IN (0, 1, 2)),    -- served, pending, echo
    sum INTEGER NOT NULL,
    PRIMARY KEY (parent_id, name)
) WITHOUT ROWID;
CREATE INDEX entries_by_inode ON entries (inode_id);
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

_VIEWS = """
-- A base is a view of a blob: base_nbytes bytes of it from base_offset on, cast to another type if base_cast says so.
ALTER TABLE blobs ADD COLUMN base_nbytes INTEGER CHECK ((base_nbytes > 0) = (base_id IS NOT NULL));
ALTER TABLE blobs ADD COLUMN base_cast TEXT NOT NULL DEFAULT '';      -- '' or 'F32>BF16': from what to what

-- Places by which ranges of one tensor are found in another. Can be made anew from the blobs.
CREATE TABLE landmarks (
    blob_id INTEGER PRIMARY KEY REFERENCES blobs (id) ON DELETE CASCADE,
    landmarks BLOB NOT NULL
);

-- The lowest hashes of those that are coded alone: who has them may be a relative. Rows of blobs that are gone mean
-- nothing, because ids are never given again; a collection deletes them.
CREATE TABLE anchors (
    hash INTEGER NOT NULL,
    blob_id INTEGER NOT NULL,
    PRIMARY KEY (hash, blob_id)
) WITHOUT ROWID;

UPDATE blobs SET base_nbytes = nbytes WHERE base_id IS NOT NULL;
"""

_PLANNED = """
-- That a base is coded alone is checked when a transaction ends: blobs and bases change places, and a log that is
-- applied late may pass through states in which one has moved and the other has not.
DROP TRIGGER base_is_coded_alone;

-- Tensors that can be compared, and those of them that can be bases.
DROP INDEX bases_by_kind;
CREATE INDEX blobs_by_size ON blobs (dtype, nbytes, base_id) WHERE dtype <> '';

-- 256 bits by which lineage finds tensors that may be related. Can be made anew from the sketches.
CREATE TABLE signatures (
    blob_id INTEGER PRIMARY KEY REFERENCES blobs (id) ON DELETE CASCADE,
    signature BLOB NOT NULL CHECK (length(signature) = 32)
);
"""

_TIMES = """
-- When somebody last set it; reading leaves it alone. NULL in rows from before, which keep their checksums: what has no
-- atime is shown with its mtime.
ALTER TABLE inodes ADD COLUMN atime_ns INTEGER;

-- How many names an inode has on either side is asked at each look at a file with several.
DROP INDEX entries_by_inode;
CREATE INDEX entries_by_inode ON entries (inode_id, area);
"""

_WRITTEN_IN_PLACE = """
-- The number of the spool file of content that was opened for writing once it was finished. NULL in rows from before,
-- which keep their checksums: a new file's spool file is called as its inode.
ALTER TABLE inodes ADD COLUMN spool_id INTEGER;
"""

_READ_ANEW = """
-- What tensors of one frame (1 MiB) are compared by is read from the blobs when it is needed: kept here it took several
-- hundredths of what they take themselves. Samples of members stay as they are; shorter ones take their place in time.
DELETE FROM sketches WHERE blob_id IN (SELECT id FROM blobs WHERE nbytes <= 1048576);
DELETE FROM landmarks WHERE blob_id IN (SELECT id FROM blobs WHERE nbytes <= 1048576 AND base_id IS NULL);
"""

_BLOCKS = """
-- Nothing changes here: blobs of block types, whose frames hold whole blocks, are not for an older ZipFS to read.
"""

_NARROW = """
-- Nothing changes here: frames of narrow values in wide items are not for an older ZipFS to read.
"""

SCRIPTS: Final = {
    "0001-first": FIRST,
    "0002-views": _VIEWS,
    "0003-planned": _PLANNED,
    "0004-times": _TIMES,
    "0005-written-in-place": _WRITTEN_IN_PLACE,
    "0006-read-anew": _READ_ANEW,
    "0007-blocks": _BLOCKS,
    "0008-narrow": _NARROW,
}
"""SQL of each migration by its name, oldest first."""

MIGRATION_SET: Final = "zipfs-catalog"
"""What the table of applied migrations calls all of these."""

"""What the catalog tells of many blobs at once; rows that cannot be are refused by name."""

from __future__ import annotations

import sqlite3
import zipfile
from pathlib import Path

import pytest

from tests.support.sample import SAMPLES
from tests.support.sql import sql
from zipfs.errors import CatalogDamaged
from zipfs.store.catalog.statistics import Members
from zipfs.store.objects.values import BlobId
from zipfs.store.store import Store, open_store


def test_views_are_told_apart(store: Store, made: tuple[Path, list[BlobId]]) -> None:
    base, _, whole, half = made[1]
    table = store.catalog.blob_table()
    rows = {int(blob_id): row for row, blob_id in enumerate(table.ids)}
    assert list(table.bases[[rows[base], rows[whole], rows[half]]]) == [-1, rows[base], rows[base]]
    assert list(table.whole[[rows[base], rows[whole], rows[half]]]) == [False, True, False]
    assert not table.cast.any()
    assert table.dtype_names[table.dtypes[rows[half]]] == "BF16"


def test_a_blob_counts_for_the_first_file_that_uses_it(store: Store, made: tuple[Path, list[BlobId]]) -> None:
    _, _, whole, _ = made[1]
    (use,) = store.catalog.first_uses([whole, BlobId(999_999)]).values()
    assert use[0] == min(
        row[0] for row in sql(store.catalog, "SELECT inode_id FROM extents WHERE blob_id = ?", (whole,))
    )
    assert store.catalog.members_of(made[1]) == {made[1][0]: Members(2, made[1][2])}
    assert store.catalog.sketches(made[1]) == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE blobs SET base_id = 999999 WHERE id = {whole}", "blob 999999 is missing"),
        ("UPDATE blobs SET base_offset = 5000 WHERE id = {half}", "blob {half} is coded against bytes"),
        ("UPDATE blobs SET frames = x'' WHERE id = {whole}", "row of blob {whole} contradicts itself"),
        ("UPDATE blobs SET nbytes = 'many' WHERE id = {whole}", "what is no number"),
        ("UPDATE blobs SET dtype = x'00' WHERE id = {whole}", "what is no text"),
        ("UPDATE blobs SET base_cast = x'01' WHERE id = {whole}", "what is no text"),
        ("DELETE FROM blobs WHERE id = {base}", "blob {base} is missing"),
    ],
)
def test_rows_that_cannot_be_are_refused(
    change: str, words: str, store: Store, made: tuple[Path, list[BlobId]]
) -> None:
    names = dict(zip(("base", "other", "whole", "half"), made[1], strict=True))
    db = sqlite3.connect(store.catalog.path, isolation_level=None)
    db.execute("PRAGMA ignore_check_constraints = ON")
    db.execute(change.format(**names))
    db.close()
    with pytest.raises(CatalogDamaged, match=words.format(**names)):
        store.catalog.blob_table()


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("format-*.zip")), ids=lambda path: path.name)
def test_catalogs_of_older_versions_are_understood_as_they_are(sample: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(sample) as archive:
        archive.extractall(tmp_path)
    with open_store(tmp_path / "store", read_only=True) as store:
        table = store.catalog.blob_table()
        assert table.ids.size > 10
        assert (table.bases >= 0).any()
        assert table.whole.any()
        ids = [BlobId(int(blob_id)) for blob_id in table.ids]
        assert set(store.catalog.sketches(ids)) <= set(ids)
        has_signatures = sql(store.catalog, "SELECT 1 FROM sqlite_master WHERE name = 'signatures'") != []
        assert has_signatures or store.catalog.signatures(ids) == {}

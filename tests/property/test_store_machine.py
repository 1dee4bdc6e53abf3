"""A store against a dictionary: whatever is done to it in whatever order, it holds what it should."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from tests.support.stores import (
    collect_garbage,
    compress,
    contents,
    copy_in,
    model,
    noise,
    optimize_all,
    problems,
    put_file,
    remove,
    tensor_file,
    tuned,
    weights,
    widened,
)
from zipfs.bases.similarity.backfill import backfill_samples, backfill_sketches
from zipfs.errors import AlreadyExists, PathError
from zipfs.ingest.queue import seal_everything
from zipfs.reading import Content, Reader, open_content
from zipfs.store.catalog.transaction import compact
from zipfs.store.maintenance.rebuild import rebuild
from zipfs.store.namespace import tree
from zipfs.store.store import Store, open_store

BASE = weights(2000)
LARGE = weights(20_000, 3)
CONTENTS = [
    b"",
    b"x",
    noise(700, 1),
    noise(70_000, 2),
    model(BASE),
    *(model(tuned(BASE, seed)) for seed in range(4)),
    model(weights(2000, 9)),
    b"text " * 200,
    model(LARGE),
    model(LARGE[10_000:34_000]),
    model(tuned(LARGE[10_000:34_000])),
    model(weights(4000, 4) + LARGE),
    tensor_file({"w": ("F32", [len(LARGE) // 2], widened(LARGE))}),
]
PATHS = [b"a", b"b", b"d/a", b"d/b", b"d/e/c", b"e/\xff"]


class StoreMachine(RuleBasedStateMachine):
    """`files` is what the served tree must hold, `readers` what was open since when."""

    readers = Bundle("readers")

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.store: Store = open_store(self.root / "store", create=True)
        self.files: dict[bytes, bytes] = {}
        self.pending: dict[bytes, bytes] = {}

    def _is_free(self, path: bytes) -> bool:
        """Whether a file may be put there: no directory is, and none of its parents is a file."""
        parts = path.split(b"/")
        below = any(name.startswith(path + b"/") for name in {*self.files, *self.pending})
        return not below and not any(b"/".join(parts[:n]) in self.files for n in range(1, len(parts)))

    @rule(path=st.sampled_from(PATHS), content=st.sampled_from(CONTENTS))
    def ingest(self, path: bytes, content: bytes) -> None:
        if self._is_free(path):
            put_file(self.store, self.root / "scratch", path, content)
            self.files[path] = content

    @rule(path=st.sampled_from(PATHS), content=st.sampled_from(CONTENTS))
    def copy(self, path: bytes, content: bytes) -> None:
        if self._is_free(path):
            copy_in(self.store, path, content)
            self.pending[path] = content

    @rule()
    def seal(self) -> None:
        seal_everything(self.store)
        self.files |= self.pending
        self.pending = {}

    @rule()
    def compress(self) -> None:
        compress(self.store)
        self.files |= self.pending
        self.pending = {}

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.files)))
        remove(self.store, path)
        del self.files[path]

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def remove_directory(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.files))).split(b"/")[0]
        remove(self.store, path)
        self.files = {name: content for name, content in self.files.items() if name.split(b"/")[0] != path}

    @precondition(lambda self: self.files)
    @rule(data=st.data(), new=st.sampled_from(PATHS))
    def rename(self, data: st.DataObject, new: bytes) -> None:
        old = data.draw(st.sampled_from(sorted(self.files)))
        if not self._is_free(new):
            return
        old_parent, _, old_name = old.rpartition(b"/")
        new_parent, _, new_name = new.rpartition(b"/")
        with self.store.transaction() as txn:
            target = tree.make_directories(txn, new_parent)
            tree.rename(txn, tree.resolve(txn.catalog, old_parent).id, old_name, target, new_name)
        self.files[new] = self.files.pop(old)

    @rule()
    def collect(self) -> None:
        collect_garbage(self.store)

    @rule()
    def optimize(self) -> None:
        optimize_all(self.store)

    @rule()
    def compact(self) -> None:
        compact(self.store.catalog, self.store.manifests, self.store.packs)

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = open_store(self.root / "store")

    @rule()
    def rebuild(self) -> None:
        self.store.close()
        assert rebuild(self.root / "store").lost == []
        self.store = open_store(self.root / "store")
        backfill_sketches(self.store, lambda what, done, total: None)
        backfill_samples(self.store, lambda what, done, total: None)

    @rule()
    def refuse(self) -> None:
        """What cannot be done changes nothing."""
        for wrong in (b"missing", b"a/below/b", b"../a", b""):
            try:
                remove(self.store, wrong)
            except PathError:
                continue
            raise AssertionError(wrong)
        try:
            with self.store.transaction() as txn:
                tree.make_directories(txn, b"never/there")
                tree.make_directories(txn, b"ingest")
        except AlreadyExists:
            return
        raise AssertionError("ingest was made")

    @precondition(lambda self: self.files)
    @rule(target=readers, data=st.data())
    def open(self, data: st.DataObject) -> tuple[Content, bytes]:
        path = data.draw(st.sampled_from(sorted(self.files)))
        inode = tree.resolve(self.store.catalog, path)
        return open_content(self.store, Reader(self.store.frames), inode), self.files[path]

    @rule(reader=readers)
    def read(self, reader: tuple[Content, bytes]) -> None:
        content, expected = reader
        assert bytes(content.read(0, len(expected) + 1)) == expected

    @invariant()
    def holds_what_it_should(self) -> None:
        assert contents(self.root / "store") == self.files

    def teardown(self) -> None:
        try:
            assert problems(self.store) == []
        finally:
            self.store.close()
            shutil.rmtree(self.root)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)

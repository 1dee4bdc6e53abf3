"""Chooses what is done to a directory: operations of every kind, one after the other, as a seed has them."""

from __future__ import annotations

import os
import random
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from tools.tortures.content import Content, tuned
from tools.tortures.files import BLOCK_NBYTES, RENAME_EXCHANGE, RENAME_NOREPLACE, Files, Handle
from tools.tortures.model import Body, Difference, listed

DIRECTORIES: Final = ("d0", "d1")
FREE_DIRECTORIES: Final = ("d2", "d3")
"""Names that a directory may be moved to."""
_NAMES_AT_MOST: Final = 10
_HANDLES_AT_MOST: Final = 14
_STORED_S: Final = 3.0

_FLAGS: Final[Sequence[tuple[int, int]]] = (
    (os.O_RDONLY, 40),
    (os.O_RDWR, 25),
    (os.O_WRONLY, 8),
    (os.O_RDWR | os.O_APPEND, 8),
    (os.O_WRONLY | os.O_APPEND, 3),
    (os.O_RDWR | os.O_TRUNC, 4),
    (os.O_WRONLY | os.O_TRUNC, 4),
    (os.O_RDWR | os.O_DIRECT, 5),
    (os.O_RDONLY | os.O_DIRECT, 3),
)

_WEIGHTS: Final = {
    "write": 18, "append": 5, "direct_write": 3, "truncate": 5, "truncate_path": 2, "read": 16, "read_whole": 5,
    "direct_read": 3, "map_file": 3, "mapped_write": 6, "mapped_read": 5, "unmap": 1, "sync": 3, "open": 12,
    "create": 3, "close": 9, "close_all": 3, "save": 1, "save_aside": 1, "tune": 2, "rename": 2, "rename_free": 1,
    "exchange": 1, "link": 2, "unlink": 2, "move_directory": 0.2, "refusals": 0.5, "chmod": 1, "set_mtime": 1,
    "list": 1, "reserve": 0.3, "copy_range": 1, "pause": 0.6, "rest": 0.3,
}  # fmt: skip
"""Operation -> how often it is chosen, against the others."""

UNKILLED: Final = frozenset({"map_file", "mapped_write", "mapped_read", "unmap", "reserve", "copy_range"})
"""What is left out where the file system is killed: a mapping would take this process along."""


class Player:
    """One directory, and one sequence of operations on it. `at_most_nbytes` bounds a file; `killed`: see UNKILLED."""

    def __init__(
        self, root: Path, seed: int, *, on_mount: bool, at_most_nbytes: int, killed: bool = False, beat: int = -1
    ) -> None:
        self.files = Files(root, on_mount=on_mount, beat=beat)
        self.chance = random.Random(seed)
        self.content = Content(seed)
        self._at_most = at_most_nbytes
        self._directories = list(DIRECTORIES)
        weights = {name: weight for name, weight in _WEIGHTS.items() if not killed or name not in UNKILLED}
        if killed:
            weights |= {"mapped_write_by_child": 2, "rest": 0.5}
        self._operations: list[Callable[[], bool]] = [getattr(self, f"_{name}") for name in weights]
        self._cumulative = [sum(list(weights.values())[: at + 1]) for at in range(len(weights))]

    def begin(self) -> None:
        for name in DIRECTORIES:
            os.mkdir(self.files.path(name))

    def look_for_directories(self) -> None:
        """Take the directories as they are: whether one was moved as the file system died is not known before."""
        self._directories = []
        for name in (*DIRECTORIES, *FREE_DIRECTORIES):
            with suppress(FileNotFoundError):  # and nothing else: it may die once more meanwhile
                if stat.S_ISDIR(os.stat(self.files.path(name)).st_mode):
                    self._directories.append(name)
        if len(self._directories) != len(DIRECTORIES):
            raise Difference(f"directories: {listed(self._directories)}")

    def step(self) -> None:
        """Do one operation. Raises Difference, and OSError for what should not have been refused."""
        self.files.steps += 1
        while True:
            (operation,) = self.chance.choices(self._operations, cum_weights=self._cumulative)
            if operation():
                self.files.counts[operation.__name__.removeprefix("_")] += 1
                return

    # Choices. Each operation returns whether there was something to do it to.

    def _handle(self, wanted: Callable[[Handle], object]) -> Handle | None:
        found = [handle for handle in self.files.handles if wanted(handle)]
        return self.chance.choice(found) if found else None

    def _name(self) -> str | None:
        names = list(self.files.tree.names)
        return self.chance.choice(names) if names else None

    def _free_name(self) -> str | None:
        if len(self.files.tree.names) >= _NAMES_AT_MOST:
            return None
        directory = self.chance.choice(("", *(f"{name}/" for name in self._directories)))
        kind = self.chance.choice(("", "", ".bin", ".safetensors"))
        name = f"{directory}f{self.chance.randrange(40)}{kind}"
        return None if name in self.files.tree.names else name

    def _length(self, at_most: int) -> int:
        longest = self.chance.choices((100, BLOCK_NBYTES, 1 << 16, 1 << 20), (4, 4, 4, 0.4))[0]
        return max(1, min(self.chance.randrange(1, longest + 1), at_most))

    def _offset(self, body: Body) -> int:
        """Anywhere, at edges of blocks, near the end, and now and then beyond it."""
        nbytes = body.nbytes
        how = self.chance.randrange(10)
        if how == 0:
            offset = nbytes + self.chance.choice((0, 1, self.chance.randrange(1 << 16)))
        elif how == 1:
            offset = nbytes - self.chance.randrange(1, 5000)
        elif how <= 4:
            block = self.chance.randrange(nbytes // BLOCK_NBYTES + 1)
            offset = block * BLOCK_NBYTES + self.chance.choice((0, 0, -1, 1))
        else:
            offset = self.chance.randrange(nbytes + 1)
        return max(0, min(offset, self._at_most - 1))

    # Content

    def _write(self) -> bool:
        handle = self._handle(lambda h: h.writable and not h.appends and not h.is_direct)
        if handle is None:
            return False
        offset = self._offset(handle.body)
        self.files.write(handle, offset, self._some(self._length(self._at_most - offset)))
        return True

    def _some(self, nbytes: int) -> bytes:
        return self.content.some(self.chance, nbytes)

    def _append(self) -> bool:
        handle = self._handle(lambda h: h.writable and h.appends and h.body.nbytes < self._at_most)
        if handle is None:
            return False
        self.files.write(handle, 0, self._some(self._length(self._at_most - handle.body.nbytes)))
        return True

    def _direct_write(self) -> bool:
        handle = self._handle(lambda h: h.writable and h.is_direct)
        if handle is None:
            return False
        offset = self._offset(handle.body) // BLOCK_NBYTES * BLOCK_NBYTES
        self.files.write(handle, offset, self._some(self.chance.randrange(1, 9) * BLOCK_NBYTES))
        return True

    def _direct_read(self) -> bool:
        handle = self._handle(lambda h: h.readable and h.is_direct)
        if handle is None:
            return False
        offset = self._offset(handle.body) // BLOCK_NBYTES * BLOCK_NBYTES
        self.files.read(handle, offset, self.chance.randrange(1, 33) * BLOCK_NBYTES)
        return True

    def _size(self, body: Body) -> int:
        if self.chance.random() < 0.1:
            return self.chance.choice((0, body.nbytes, body.nbytes // BLOCK_NBYTES * BLOCK_NBYTES))
        if self.chance.random() < 0.6:
            return self._offset(body)
        return self.chance.randrange(min(self._at_most, 2 * body.nbytes + 5000))

    def _truncate(self) -> bool:
        handle = self._handle(lambda h: h.writable)
        if handle is None:
            return False
        self.files.truncate(handle, self._size(handle.body))
        return True

    def _truncate_path(self) -> bool:
        name = self._name()
        if name is None:
            return False
        self.files.truncate(name, self._size(self.files.tree.names[name]))
        return True

    def _read(self) -> bool:
        handle = self._handle(lambda h: h.readable and not h.is_direct)
        if handle is None:
            return False
        self.files.read(handle, self._offset(handle.body), self._length(1 << 20))
        return True

    def _read_whole(self) -> bool:
        name = self._name()
        if name is None:
            return False
        self.files.read_whole(name)
        return True

    def _map_file(self) -> bool:
        handle = self._handle(lambda h: h.readable and h.view is None and h.body.nbytes and not h.is_direct)
        if handle is None:
            return False
        self.files.map(handle)
        return True

    def _mapped_write(self) -> bool:
        handle = self._handle(lambda h: self.files.is_mapped_for_writing(h) and h.mapped_nbytes)
        if handle is None:
            return False
        offset = self.chance.randrange(handle.mapped_nbytes)
        nbytes = self._length(handle.mapped_nbytes - offset)
        self.files.write_mapped(handle, offset, self._some(nbytes), sync=self.chance.random() < 0.5)
        return True

    def _mapped_write_by_child(self) -> bool:
        handle = self._handle(lambda h: h.readable and h.writable and not h.is_direct and h.body.nbytes)
        if handle is None:
            return False
        offset = self.chance.randrange(handle.body.nbytes)
        nbytes = self._length(handle.body.nbytes - offset)
        self.files.write_mapped_by_child(handle, offset, self._some(nbytes))
        return True

    def _mapped_read(self) -> bool:
        handle = self._handle(lambda h: h.mapped_nbytes)
        if handle is None:
            return False
        offset = self.chance.randrange(handle.mapped_nbytes)
        self.files.read_mapped(handle, offset, self._length(handle.mapped_nbytes - offset))
        return True

    def _unmap(self) -> bool:
        handle = self._handle(lambda h: h.view is not None)
        if handle is None:
            return False
        self.files.close(handle)
        return True

    def _sync(self) -> bool:
        handle = self._handle(lambda h: h.fd >= 0)
        if handle is None:
            return False
        if self.files.is_mapped_for_writing(handle) and self.chance.random() < 0.5:
            self.files.sync_mapping(handle)
        else:
            self.files.sync(handle, data_only=self.chance.random() < 0.5)
        return True

    def _reserve(self) -> bool:
        handle = self._handle(lambda h: h.readable and h.writable and not h.appends and not h.is_direct)
        if handle is None:
            return False
        self.files.reserve(handle, min(self._at_most, self._offset(handle.body) + self._length(1 << 16)))
        return True

    def _copy_range(self) -> bool:
        source = self._handle(lambda h: h.readable and h.body.nbytes and not h.is_direct)
        if source is None:
            return False
        target = self._handle(lambda h: h.writable and not h.appends and not h.is_direct and h.body is not source.body)
        if target is None:
            return False
        begin = self.chance.randrange(source.body.nbytes)
        offset = self._offset(target.body)
        nbytes = min(self._length(source.body.nbytes - begin), self._at_most - offset)
        self.files.copy_range(source, target, begin, offset, nbytes)
        return True

    # Opening and closing

    def _open(self) -> bool:
        name = self._name()
        if name is None or len(self.files.handles) >= _HANDLES_AT_MOST:
            return False
        (flags,) = self.chance.choices([flags for flags, _ in _FLAGS], [weight for _, weight in _FLAGS])
        self.files.open(name, flags)
        return True

    def _create(self) -> bool:
        name = self._free_name()
        if name is None or len(self.files.handles) >= _HANDLES_AT_MOST:
            return False
        self.files.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        return True

    def _close(self) -> bool:
        handle = self._handle(lambda h: h.fd >= 0)
        if handle is None:
            return False
        self.files.close(handle, keep_mapping=self.chance.random() < 0.5)
        return True

    def _close_all(self) -> bool:
        """Close all of a file, and let it be quiet for a while."""
        handle = self._handle(lambda h: True)
        if handle is None:
            return False
        self.files.close_all(handle.body)
        return True

    def _pause(self) -> bool:
        time.sleep(self.chance.random() * 0.6)
        return True

    def _rest(self) -> bool:
        """Wait until a file is compressed that nobody writes to, and look at it."""
        name = self._name()
        if name is None:
            return False
        body = self.files.tree.names[name]
        for handle in [handle for handle in self.files.handles if handle.body is body and handle.is_writer]:
            self.files.close(handle)
        if self.files.on_mount:
            deadline = time.monotonic() + _STORED_S
            while (state := self.files.state(name)) != "stored" and time.monotonic() < deadline:
                time.sleep(0.02)
            self.files.counts[f"rested until {state}"] += 1
        self.files.read_whole(name)
        return True

    # As programs do

    def _save(self) -> bool:
        """Write a model over what is there."""
        name = self._name()
        if name is None or len(self.files.handles) >= _HANDLES_AT_MOST:
            return False
        self._fill(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        return True

    def _save_aside(self) -> bool:
        """Write a model under another name, and rename it over."""
        name, aside = self._name(), self._free_name()
        if name is None or aside is None or len(self.files.handles) >= _HANDLES_AT_MOST:
            return False
        self._fill(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        self.files.move(aside, name)
        return True

    def _fill(self, name: str, flags: int) -> None:
        content = self.content.model(self.chance, self._at_most // 2)
        handle = self.files.open(name, flags)
        step = self.chance.choice((4096, 1 << 16, 1 << 20))
        step = max(step, len(content) // 8)
        for offset in range(0, len(content), step):
            self.files.write(handle, offset, content[offset : offset + step])
        if self.chance.random() < 0.5:
            self.files.sync(handle, data_only=False)
        self.files.close(handle)

    def _tune(self) -> bool:
        """Train weights in place a little."""
        name = self._name()
        if name is None or len(self.files.handles) >= _HANDLES_AT_MOST:
            return False
        body = self.files.tree.names[name]
        if body.nbytes < BLOCK_NBYTES:
            return False
        handle = self.files.open(name, os.O_RDWR)
        begin = self.chance.randrange(body.nbytes // 2)
        nbytes = min(self.chance.randrange(1, body.nbytes - begin), 1 << 18)
        self.files.read(handle, begin, nbytes)
        self.files.write(handle, begin, tuned(bytes(body.data[begin : begin + nbytes]), self.chance))
        self.files.close(handle)
        return True

    # Names and attributes

    def _rename(self) -> bool:
        one, other = self._name(), self._name()
        if one is None or other is None or one == other:
            return False
        self.files.move(one, other)
        return True

    def _rename_free(self) -> bool:
        one, other = self._name(), self._free_name()
        if one is None or other is None:
            return False
        self.files.move(one, other, self.chance.choice((0, RENAME_NOREPLACE)))
        return True

    def _exchange(self) -> bool:
        one, other = self._name(), self._name()
        if one is None or other is None or one == other:
            return False
        self.files.move(one, other, RENAME_EXCHANGE)
        return True

    def _link(self) -> bool:
        one, other = self._name(), self._free_name()
        if one is None or other is None:
            return False
        self.files.link(one, other)
        return True

    def _unlink(self) -> bool:
        name = self._name()
        if name is None:
            return False
        self.files.unlink(name)
        return True

    def _refusals(self) -> bool:
        one, other = self._name(), self._name()
        if one is None or other is None or one == other:
            return False
        refused = (
            lambda: self.files.create_again(one),
            lambda: self.files.link(one, other),
            lambda: self.files.move(one, other, RENAME_NOREPLACE),
        )
        self.chance.choice(refused)()
        return True

    def _move_directory(self) -> bool:
        at = self.chance.randrange(len(self._directories))
        free = [name for name in (*DIRECTORIES, *FREE_DIRECTORIES) if name not in self._directories]
        new = self.chance.choice(free)
        self.files.move_directory(self._directories[at], new)
        self._directories[at] = new
        return True

    def _chmod(self) -> bool:
        target = self._target()
        if target is None:
            return False
        self.files.chmod(target, self.chance.choice((0o644, 0o600, 0o640, 0o755, 0o444)))
        return True

    def _target(self) -> Handle | str | None:
        """A name, or a handle."""
        return self._name() if self.chance.random() < 0.5 else self._handle(lambda h: h.fd >= 0)

    def _set_mtime(self) -> bool:
        target = self._target()
        if target is None:
            return False
        self.files.set_mtime(target, self.chance.randrange(10**18, 2 * 10**18))
        return True

    def _list(self) -> bool:
        self.files.check_names()
        return True

"""Programs that read files of a mount in every way there is and compare each byte with plain copies.

`python -m tests.support.reading ROLE SEED SPEC BEAT ROUNDS` runs a role ROUNDS times, or for as long as SPEC says if
that is 0. It touches BEAT after each step, so that somebody else can tell that it does not hang, and prints how many
rounds it made. Whatever differs ends it with a message that names the file, the range and the seed.
"""

from __future__ import annotations

import errno
import mmap
import os
import random
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support.plain import Different, Pair, Plain, Spec, compare, read_spec
from tests.support.walking import Walk

KIB: Final = 1 << 10
MIB: Final = 1 << 20
PAGE: Final = 4096
_MAP_POPULATE: Final = 0x8000
_SIZES: Final = (1, 100, PAGE, 64 * KIB, 128 * KIB, 200_001, MIB, 3 * MIB + 1)


@dataclass(slots=True)
class Program:
    """One reader. `step` is called whenever something has come to its end."""

    chance: random.Random
    spec: Spec
    step: Callable[[], None]
    plain: Plain = field(default_factory=Plain)

    def _choose(self) -> tuple[str, memoryview]:
        pair = self.chance.choice(self.spec.good)
        return pair.served, self.plain.of(pair.plain[0])

    @contextmanager
    def _opened(self, path: str, flags: int = 0) -> Iterator[int]:
        fd = os.open(path, os.O_RDONLY | flags)
        try:
            if self.chance.random() < 0.7:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            yield fd
        finally:
            os.close(fd)

    # In order

    def sequential(self) -> None:
        """read(2) of one size from the beginning, to the end or not so far."""
        path, expected = self._choose()
        size = self.chance.choice(_SIZES[2:])
        end = len(expected) + 1 if self.chance.random() < 0.5 else self.chance.randrange(len(expected))
        with self._opened(path) as fd:
            at = 0
            while at < end:
                got = os.read(fd, size)
                compare(got, expected[at : at + size], path, at)
                at += len(got)
                self.step()
                if not got:
                    break

    def halting(self) -> None:
        """Opened, begun somewhere, closed again, many times: what was decoded ahead is in vain."""
        for _ in range(10):
            path, expected = self._choose()
            with self._opened(path) as fd:
                at = self.chance.randrange(len(expected)) // MIB * MIB
                for _ in range(self.chance.randrange(6)):
                    compare(os.pread(fd, 128 * KIB, at), expected[at : at + 128 * KIB], path, at)
                    at += 128 * KIB
            self.step()

    def mapped(self) -> None:
        """A mapping touched page after page, in order or not."""
        path, expected = self._choose()
        flags = self.chance.choice((mmap.MAP_PRIVATE, mmap.MAP_SHARED, mmap.MAP_SHARED | _MAP_POPULATE))
        with self._opened(path) as fd, mmap.mmap(fd, 0, flags=flags, prot=mmap.PROT_READ) as view:
            size = self.chance.choice((PAGE, 64 * KIB, MIB))
            places = list(range(0, len(expected), size))
            if self.chance.random() < 0.5:
                view.madvise(self.chance.choice((mmap.MADV_RANDOM, mmap.MADV_WILLNEED, mmap.MADV_NORMAL)))
                self.chance.shuffle(places)
                del places[200:]
            for at in places:
                compare(view[at : at + size], expected[at : at + size], path, at)
                self.step()

    # Anywhere

    def anywhere(self) -> None:
        """pread(2) of all sizes anywhere."""
        path, expected = self._choose()
        with self._opened(path) as fd:
            self._read_anywhere(self.chance, path, expected, fd, 60)

    def _read_anywhere(self, chance: random.Random, path: str, expected: memoryview, fd: int, times: int) -> None:
        for _ in range(times):
            at, size = chance.randrange(len(expected) + 10), chance.choice(_SIZES)
            compare(os.pread(fd, size, at), expected[at : at + size], path, at)
            self.step()

    def shared(self) -> None:
        """Eight threads on one descriptor, some in order through parts of their own, some anywhere."""
        path, expected = self._choose()
        failed: list[BaseException] = []
        with self._opened(path) as fd:

            def read(seed: int) -> None:
                chance = random.Random(seed)
                try:
                    if chance.random() < 0.5:
                        self._read_anywhere(chance, path, expected, fd, 20)
                        return
                    begin, size = chance.randrange(len(expected)), chance.choice((64 * KIB, MIB))
                    for at in range(begin, min(begin + 6 * MIB, len(expected)), size):
                        compare(os.pread(fd, size, at), expected[at : at + size], path, at)
                        self.step()
                except BaseException as error:  # noqa: BLE001  # told by the thread that started this one
                    failed.append(error)

            threads = [threading.Thread(target=read, args=[self.chance.random()]) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if failed:
            raise failed[0]

    def direct(self) -> None:
        """Round the page cache: aligned blocks into aligned memory."""
        path, expected = self._choose()
        size = self.chance.choice((PAGE, 128 * KIB, MIB, 2 * MIB))
        with self._opened(path, os.O_DIRECT) as fd, mmap.mmap(-1, size) as buffer:
            at = self.chance.randrange(len(expected)) // PAGE * PAGE
            for _ in range(30):
                count = os.preadv(fd, [buffer], at)
                compare(buffer[:count], expected[at : at + size], path, at)
                at = at + size if self.chance.random() < 0.8 else self.chance.randrange(len(expected)) // PAGE * PAGE
                self.step()

    # What is replaced, removed, damaged

    def replaced(self) -> None:
        """Whatever version is opened, it stays the same and whole, also when its name is gone."""
        pair = self.chance.choice(self.spec.replaced)
        try:
            fd = os.open(pair.served, os.O_RDONLY)
        except FileNotFoundError:
            self.step()
            return
        try:
            start = os.pread(fd, 8, 0)
            found = [path for path in pair.plain if self.plain.of(path)[:8] == start]
            if not found:
                raise Different(f"{pair.served}: begins with {start.hex()}, as no version does")
            where, expected = f"{pair.served}, as {found[0]}", self.plain.of(found[0])
            for _ in range(self.chance.randrange(1, 5)):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                if os.fstat(fd).st_size != len(expected):
                    raise Different(f"{where}: has {os.fstat(fd).st_size} bytes")
                if self.chance.random() < 0.5:
                    compare(os.pread(fd, len(expected) + 1, 0), expected, where, 0)
                else:
                    self._read_anywhere(self.chance, where, expected, fd, 20)
                self.step()
        finally:
            os.close(fd)

    def damaged(self) -> None:
        """Reads end where damage begins and fail within it; everything else comes as it was written."""
        pair = self.chance.choice(self.spec.damaged)
        expected = self.plain.of(pair.plain[0])
        direct = self.chance.random() < 0.3
        with self._opened(pair.served, os.O_DIRECT if direct else 0) as fd, mmap.mmap(-1, 2 * MIB) as buffer:
            at = self.chance.randrange(len(expected)) // PAGE * PAGE
            for _ in range(20):
                size = self.chance.choice((PAGE, 128 * KIB, MIB, 2 * MIB))
                self._read_damaged(pair, expected, fd, memoryview(buffer)[:size], at, direct=direct)
                at = self.chance.choice((at, at + size, self.chance.randrange(len(expected)) // PAGE * PAGE))
                self.step()

    def _read_damaged(
        self, pair: Pair, expected: memoryview, fd: int, buffer: memoryview, at: int, *, direct: bool
    ) -> None:
        """A request fails as a whole where it is direct, and page by page where the page cache makes it."""
        end = min(at + len(buffer), len(expected))
        first = min(
            (max(begin // PAGE * PAGE, at) for begin, stop in pair.bad if begin < end and at < stop), default=end
        )
        where = f"{pair.served}{', direct' if direct else ''}"
        try:
            count = os.preadv(fd, [buffer], at)
        except OSError as error:
            if error.errno == errno.EIO and first < end and (direct or first == at):
                return
            raise Different(f"{where}: {end - at} bytes at {at} of which the first {first - at} are good") from error
        if direct and first < end:
            # What the kernel asks for in parts ends before the part that fails.
            compare(buffer[:count], expected[at : at + count], where, at)
            if at + count > first:
                raise Different(f"{where}: {count} bytes at {at}, into what is damaged from {first} on")
            return
        compare(buffer[:count], expected[at:first], where, at)

    # Everything, in no order

    def walk(self) -> None:
        """A random walk over files, descriptors that share positions, mappings, advice and ways to copy."""
        walk = Walk(self.chance, self.spec, self.plain)
        try:
            for _ in range(300):
                walk.go()
                self.step()
        finally:
            walk.close()


ROLES: Final[dict[str, Callable[[Program], None]]] = {
    "sequential": Program.sequential,
    "halting": Program.halting,
    "mapped": Program.mapped,
    "anywhere": Program.anywhere,
    "shared": Program.shared,
    "direct": Program.direct,
    "replaced": Program.replaced,
    "damaged": Program.damaged,
    "walk": Program.walk,
}


def main() -> None:
    role, seed, spec_path, beat, rounds = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])
    Path(beat).touch()
    spec = read_spec(spec_path)
    program = Program(random.Random(seed), spec, lambda: os.utime(beat))
    done = 0
    try:
        while done < rounds or (not rounds and not os.path.exists(spec.stop)):
            ROLES[role](program)
            done += 1
    except BaseException:  # noqa: BLE001  # told to whoever started this, also where the mount is torn away
        sys.stderr.write(f"{role}, seed {seed}, round {done}: {traceback.format_exc()}")
        with suppress(OSError):
            Path(spec.stop).touch()
        sys.exit(1)
    sys.stdout.write(f"{done}\n")


if __name__ == "__main__":
    main()

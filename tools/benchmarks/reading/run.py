"""Takes the samples: starts what serves, makes it cold, has a process read, and gives up what hangs."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.benchmarks.reading.contenders import EXTRA_BIN, HERE, PLAIN, ZIPFS, Contender, Trouble
from tools.benchmarks.reading.data import MODEL
from tools.benchmarks.reading.samples import (
    BASE_CACHED,
    CACHED,
    CASES,
    COLD,
    LARGE,
    MEMORY,
    SIBLINGS,
    Case,
    Sample,
    percentile,
)  # fmt: skip
from tools.benchmarks.reading.stores import base_packs, count_drops, drop_caches, warm

READY_S = 300.0
ANSWER_S = 60.0
SLOWEST_B_S = 10e6
"""What reads slower than this, after a minute, is taken as hanging."""
ATTEMPTS = 3
TORCH_MODES = ("load_file", "from_pretrained")


class Reader:
    """A process that reads; see reader. Raises Trouble where it does not answer, and is gone then."""

    def __init__(self, prefix: Sequence[str | Path], tiny: Path | None) -> None:
        python = sys.executable if tiny is None else EXTRA_BIN / "python"
        command = [*prefix, python, "-P", HERE / "reader.py", *(() if tiny is None else ("--torch", tiny))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/")
        self._left = b""
        self._is_ready = False

    def wait_until_ready(self) -> None:
        """It goes on loading its libraries after it was started."""
        if not self._is_ready:
            self._receive(READY_S)
            self._is_ready = True

    def ask(self, request: Mapping[str, object], within_s: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise Trouble(f"the reader is gone: {error}") from error
        return self._receive(within_s)

    def _receive(self, within_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        deadline = time.monotonic() + within_s
        while b"\n" not in self._left:
            waiting_s = max(0.0, deadline - time.monotonic())
            if not select.select([self._process.stdout], [], [], waiting_s)[0]:
                raise Trouble(f"no answer within {within_s:.0f} s")
            received = os.read(self._process.stdout.fileno(), 1 << 16)
            if not received:
                raise Trouble(f"the reader ended with {self._process.wait()}")
            self._left += received
        line, _, self._left = self._left.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        self._process.kill()  # what it waits for in a mount was aborted
        self._process.communicate()


@dataclass(slots=True)
class Bench:
    """Everything that a run of samples needs. `siblings` are the names of the fine-tunes of one base."""

    folder: Path
    contenders: dict[str, Contender]
    siblings: Sequence[str]
    say: Callable[[str], None]
    _readers: dict[tuple[bool, bool], Reader] = field(default_factory=dict)

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        for contender in self.contenders.values():
            try:
                contender.stop(for_good=True)
            except Trouble as error:
                self.say(f"{contender.name}: {error}")

    def round(self, number: int, rows: Sequence[str]) -> Iterator[Sample]:
        """A sample of each case and contender. Who comes first differs from round to round."""
        for case in CASES:
            if case.row not in rows:
                continue
            entries = [entry for entry in case.entries if entry[0] in self.contenders]
            turn = number % len(entries)
            for name, state in [*entries[turn:], *entries[:turn]]:
                self.say(f"{case.name}: {name}, {state}")
                yield from self._measure(number, case, self.contenders[name], state)

    def _measure(self, number: int, case: Case, contender: Contender, state: str) -> Iterator[Sample]:
        """Again where somebody else has dropped the page cache meanwhile."""
        for _ in range(ATTEMPTS):
            try:
                reader = self._reader(case.mode, contender)
                reader.wait_until_ready()
                contender.start()
            except Trouble as error:
                yield Sample(number, case.name, contender.name, state, failure=str(error))
                return
            drop_caches()
            drops = count_drops()
            samples = list(self._from_cold(reader, number, case, contender, state))
            self._stop(contender)
            if count_drops() == drops:
                yield from samples
                return
            self.say(f"{contender.name}: once more, for somebody else has dropped the page cache")
        yield Sample(number, case.name, contender.name, state, failure="somebody else kept dropping the page cache")

    def _from_cold(self, reader: Reader, number: int, case: Case, contender: Contender, state: str) -> Iterator[Sample]:
        """A sample; and a second one, if the case wants it and nothing is special about what was cached."""
        if state == BASE_CACHED:
            warm(base_packs(self.folder, "sibling-base" if case.models == SIBLINGS else "base"))
        sample = self._sample(reader, number, case, contender, case.name, state)
        yield sample
        if case.again is not None and state == COLD and not sample.failure:
            yield self._sample(reader, number, case, contender, case.again, CACHED)

    def _stop(self, contender: Contender) -> None:
        try:
            contender.stop()
        except Trouble as error:
            self.say(f"{contender.name}: {error}")

    def _sample(self, reader: Reader, number: int, case: Case, contender: Contender, name: str, state: str) -> Sample:
        load, cpu_s = os.getloadavg()[0], contender.cpu_s()
        found = self._ask(reader, contender, case.mode, self._paths(contender, case.models), number)
        if "error" in found:
            return Sample(number, name, contender.name, state, load=load, failure=found["error"])
        latencies = found["latencies_ms"]
        return Sample(
            number,
            name,
            contender.name,
            state,
            found["nbytes"],
            found["seconds"],
            found["cpu_s"],
            contender.cpu_s() - cpu_s,
            percentile(latencies, 0.5),
            percentile(latencies, 0.99),
            contender.peak_mib(),
            load,
        )

    def _paths(self, contender: Contender, models: tuple[str, ...]) -> list[str]:
        names = self.siblings if models == SIBLINGS else models
        return [str(contender.root / name / MODEL) for name in names]

    def _ask(
        self, reader: Reader, contender: Contender, mode: str, paths: Sequence[str], seed: int = 0
    ) -> dict[str, Any]:
        plain = [self.folder / "models" / Path(path).parent.name / MODEL for path in paths]
        nbytes = sum(path.stat().st_size for path in plain) * (8 if mode == "same" else 1)
        try:
            reader.wait_until_ready()
            return reader.ask({"mode": mode, "paths": paths, "seed": seed}, ANSWER_S + nbytes / SLOWEST_B_S)
        except Trouble as error:
            self.say(f"{contender.name}: {error}; aborting it")
            contender.abort()
            for key in [key for key, known in self._readers.items() if known is reader]:
                self._readers.pop(key).close()
            return {"error": str(error)}

    def _reader(self, mode: str, contender: Contender) -> Reader:
        """One process for all that is read alike."""
        with_torch = mode in TORCH_MODES
        key = (with_torch, bool(contender.prefix))
        if key not in self._readers:
            tiny = self.folder / "models" / "tiny" if with_torch else None
            self._readers[key] = Reader(contender.prefix, tiny)
        return self._readers[key]

    def start_readers(self, rows: Sequence[str]) -> None:
        """Those that take long to start, so that others can do something meanwhile."""
        for mode in {case.mode for case in CASES if case.row in rows} & set(TORCH_MODES):
            self._reader(mode, self.contenders[PLAIN])

    def wait_for_readers(self) -> None:
        for reader in self._readers.values():
            reader.wait_until_ready()

    def compare(self, name: str, models: Sequence[str]) -> None:
        """See that a contender serves what the plain files hold. Raises Trouble."""
        contender, plain = self.contenders[name], self.contenders[PLAIN]
        contender.start()
        for model in models:
            self.say(f"comparing {model} of {name}")
            paths = [self._paths(side, (model,)) for side in (plain, contender)]
            sides = [
                self._ask(self._reader("digest", side), side, "digest", path)
                for side, path in zip((plain, contender), paths, strict=True)
            ]
            if "error" in sides[1] or sides[0] != sides[1]:
                raise Trouble(f"{name} does not serve {model}: {sides[1].get('error', 'other bytes')}")
        self._stop(contender)

    def memory(self, rows: Sequence[str]) -> Sample:
        """The peak of one ZipFS daemon that serves every kind of reader in turn, starting cold."""
        contender = self.contenders[ZIPFS]
        try:
            contender.start()
            drop_caches()
            for case in CASES:
                if case.row in rows and any(name == ZIPFS for name, _ in case.entries):
                    self.say(f"{MEMORY}: {case.name}")
                    reader = self._reader(case.mode, contender)
                    found = self._ask(reader, contender, case.mode, self._paths(contender, case.models))
                    if "error" in found:
                        raise Trouble(found["error"])
                    drop_caches()
            peak = contender.peak_mib()
        except Trouble as error:
            return Sample(0, MEMORY, ZIPFS, COLD, failure=str(error))
        self._stop(contender)
        return Sample(0, MEMORY, ZIPFS, COLD, peak_mib=peak, load=os.getloadavg()[0])


def served_models(name: str, rows: Sequence[str], siblings: Sequence[str]) -> list[str]:
    """The models that are read through a contender for these rows."""
    used: set[str] = set()
    for case in CASES:
        if case.row in rows and name in (entry for entry, _ in case.entries):
            used.update(siblings if case.models == SIBLINGS else case.models)
    return sorted(used or LARGE)

"""The process that reads, and takes the time: what it reads is never in a process that serves it.

A line of JSON comes in, {"mode": ..., "paths": [...]}, and one goes out: {"seconds": ..., "nbytes": ..., "cpu_s": ...},
with "latencies_ms" where single reads are timed, or {"error": ...}. It stays for many requests, so that no interpreter
and no library is loaded while the time is taken. `--torch DIR` imports torch and transformers first, and loads the
small model in DIR.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

CHUNK_NBYTES = 1 << 20
PAGE_NBYTES = 4096
THREADS = 8
RANDOM_READS = 500


@contextmanager
def opened(path: str) -> Iterator[tuple[int, int]]:
    """Descriptor and size."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor, os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def read_through(path: str) -> int:
    """read(2) of 1 MiB into one buffer, to the end."""
    buffer = bytearray(CHUNK_NBYTES)
    done = 0
    with opened(path) as (descriptor, size):
        while count := os.readv(descriptor, [buffer]):
            done += count
        if done != size:
            raise OSError(f"{path} ended after {done} of {size} bytes")
    return done


def read_range(descriptor: int, start: int, end: int) -> int:
    buffer = memoryview(bytearray(CHUNK_NBYTES))
    at = start
    while at < end:
        count = os.preadv(descriptor, [buffer[: min(CHUNK_NBYTES, end - at)]], at)
        if count == 0:
            raise OSError(f"end of file at {at}, before {end}")
        at += count
    return end - start


def at_once(jobs: list[Callable[[], int]]) -> int:
    """Run each in a thread of its own; the sum of what they return."""
    results: list[int] = []
    errors: list[OSError] = []

    def run(job: Callable[[], int]) -> None:
        try:
            results.append(job())
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(results)


def sequential(paths: list[str]) -> int:
    return sum(read_through(path) for path in paths)


def files_at_once(paths: list[str]) -> int:
    return at_once([partial(read_through, path) for path in paths])


def parts_at_once(paths: list[str]) -> int:
    """Each thread reads its eighth, all on one descriptor."""
    with opened(paths[0]) as (descriptor, size):
        cuts = [size * number // THREADS for number in range(THREADS + 1)]
        return at_once([partial(read_range, descriptor, start, end) for start, end in pairwise(cuts)])


def same_at_once(paths: list[str]) -> int:
    """Each thread reads everything, all on one descriptor."""
    with opened(paths[0]) as (descriptor, size):
        return at_once([partial(read_range, descriptor, 0, size)] * THREADS)


def load_file(paths: list[str]) -> int:
    """Each tensor of the file, and of each the pages that it lies on."""
    return touch(import_module("safetensors.torch").load_file(paths[0]).values())


def from_pretrained(paths: list[str]) -> int:
    auto = import_module("transformers").AutoModelForCausalLM
    model = auto.from_pretrained(str(Path(paths[0]).parent), dtype="auto", local_files_only=True)
    return touch(model.state_dict().values())


def touch(tensors: Any) -> int:
    torch = import_module("torch")
    nbytes = 0
    for tensor in tensors:
        content = tensor.view(-1).view(torch.uint8)
        content[::PAGE_NBYTES].max()
        nbytes += content.numel()
    return nbytes


def digest(paths: list[str]) -> str:
    """Of everything that the file holds, to compare what is served with what it was made of."""
    state = import_module("xxhash").xxh3_128()
    buffer = memoryview(bytearray(CHUNK_NBYTES))
    with opened(paths[0]) as (descriptor, _size):
        while count := os.readv(descriptor, [buffer]):
            state.update(buffer[:count])
    found: str = state.hexdigest()
    return found


def random_latencies(path: str, seed: int) -> list[float]:
    """Milliseconds that each of many reads of one page took, no page twice."""
    buffer = bytearray(PAGE_NBYTES)
    found = []
    with opened(path) as (descriptor, size):
        pages = range(size // PAGE_NBYTES)
        for page in random.Random(seed).sample(pages, min(RANDOM_READS, len(pages))):
            begin = time.perf_counter_ns()
            os.preadv(descriptor, [buffer], page * PAGE_NBYTES)
            found.append((time.perf_counter_ns() - begin) / 1e6)
    return found


def first_byte_latency(path: str) -> list[float]:
    begin = time.perf_counter_ns()
    with opened(path) as (descriptor, _size):
        os.pread(descriptor, 1, 0)
        return [(time.perf_counter_ns() - begin) / 1e6]


MODES: dict[str, Callable[[list[str]], int]] = {
    "sequential": sequential,
    "files": files_at_once,
    "parts": parts_at_once,
    "same": same_at_once,
    "load_file": load_file,
    "from_pretrained": from_pretrained,
}


def answer(request: dict[str, Any]) -> dict[str, object]:
    mode, paths = request["mode"], request["paths"]
    if mode == "digest":
        return {"digest": digest(paths)}
    latencies: list[float] = []
    cpu, begin = _cpu_s(), time.perf_counter()
    if mode == "random":
        latencies = random_latencies(paths[0], request["seed"])
        nbytes = len(latencies) * PAGE_NBYTES
    elif mode == "first":
        latencies = first_byte_latency(paths[0])
        nbytes = 1
    else:
        nbytes = MODES[mode](paths)
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "nbytes": nbytes, "cpu_s": _cpu_s() - cpu, "latencies_ms": latencies}


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def warm_torch(folder: str) -> None:
    """Everything that the first load imports and starts."""
    import_module("torch").set_num_threads(os.cpu_count() or 1)
    import_module("transformers").utils.logging.disable_progress_bar()
    path = str(Path(folder) / "model.safetensors")
    load_file([path])
    from_pretrained([path])


def main() -> None:
    if sys.argv[1:2] == ["--torch"]:
        warm_torch(sys.argv[2])
    print(json.dumps({"ready": os.getpid()}), flush=True)
    for line in sys.stdin:
        try:
            found = answer(json.loads(line))
        except OSError as error:
            found = {"error": str(error)}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()

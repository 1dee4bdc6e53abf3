"""Programs of C for the tests: compiled under ASan and UBSan, one process for each source, as many at once as there are
processors. What was compiled once is kept in the virtual environment: most tests link the same, and it takes long.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
NATIVE: Final = HERE.parent.parent / "zipfs" / "codec" / "native"

_COMPILED: Final = Path(sys.prefix) / "sanitized"
_SANITIZERS: Final = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
_FLAGS: Final = ["-std=gnu11", "-O1", "-g1", *_SANITIZERS, f"-I{NATIVE}", f"-I{HERE}"]


def build_sanitized(program: Path, sources: Iterable[Path]) -> None:
    """Compile and link `sources` to `program`."""
    compiler = shutil.which("gcc")
    assert compiler is not None, "the package is compiled by gcc, and so are its tests"
    headers = b"".join(path.read_bytes() for folder in (NATIVE, HERE) for path in sorted(folder.glob("*.h")))
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, timeout=60).stdout
    _COMPILED.mkdir(exist_ok=True)

    def compile_one(source: Path) -> str:
        told = b"\0".join([version, *map(str.encode, _FLAGS), headers, source.read_bytes()])
        built = _COMPILED / f"{source.stem}-{hashlib.sha256(told).hexdigest()[:32]}.o"
        with open(built.with_suffix(".lock"), "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two tests at once would both compile it
            if not built.exists():
                part = built.with_suffix(".part")
                subprocess.run([compiler, *_FLAGS, "-c", str(source), "-o", str(part)], check=True, timeout=300)
                part.rename(built)
        return str(built)

    with ThreadPoolExecutor() as pool:
        objects = list(pool.map(compile_one, sources))
    subprocess.run([compiler, *_SANITIZERS, *objects, "-lm", "-o", str(program)], check=True, timeout=300)

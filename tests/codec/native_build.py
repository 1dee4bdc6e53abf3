"""Programs of C for the tests: compiled under ASan and UBSan, one process for each source, as many at once as there are
processors."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
NATIVE: Final = HERE.parent.parent / "zipfs" / "codec" / "native"

_SANITIZERS: Final = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
_FLAGS: Final = ["-std=gnu11", "-O1", "-g", *_SANITIZERS, f"-I{NATIVE}", f"-I{HERE}"]


def build_sanitized(program: Path, sources: Iterable[Path]) -> None:
    """Compile and link `sources` to `program`."""
    compiler = shutil.which("gcc")
    assert compiler is not None, "the package is compiled by gcc, and so are its tests"

    def compile_one(source: Path) -> str:
        built = str(program.with_name(f"{source.stem}.o"))
        subprocess.run([compiler, *_FLAGS, "-c", str(source), "-o", built], check=True, timeout=300)
        return built

    with ThreadPoolExecutor() as pool:
        objects = list(pool.map(compile_one, sources))
    subprocess.run([compiler, *_SANITIZERS, *objects, "-lm", "-o", str(program)], check=True, timeout=300)

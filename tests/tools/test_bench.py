"""`tools/bench` lists what can be measured, and each of it tells its options."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
BENCHMARKS = REPOSITORY / "tools" / "benchmarks"
SUBJECTS = sorted(str(path.parent.relative_to(BENCHMARKS)) for path in BENCHMARKS.rglob("__main__.py"))


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, timeout=120, cwd=REPOSITORY
    )


def test_every_subject_is_listed_with_what_it_measures() -> None:
    lines = run(REPOSITORY / "tools" / "bench").stdout.splitlines()
    assert [line.split()[0] for line in lines] == SUBJECTS
    assert all(line.endswith(".") and len(line.split()) > 3 for line in lines)


def test_a_name_that_is_no_subject_is_refused() -> None:
    done = run(REPOSITORY / "tools" / "bench", "codecs")
    assert done.returncode == 2
    assert done.stderr.startswith("bench: there is no benchmark codecs; there are:\nbases ")


@pytest.mark.slow
@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_subject_tells_its_options(subject: str) -> None:
    done = run(sys.executable, "-m", f"tools.benchmarks.{subject.replace('/', '.')}", "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: tools/bench {subject} ")


@pytest.mark.slow
def test_an_ingest_is_measured_and_compared_with_another_checkout(tmp_path: Path) -> None:
    """The other one is this one, so that both store the same."""
    told = tmp_path / "told.json"
    small = ("--mbytes", 3, "--models", 2, "--rounds", 1, "--dir", tmp_path, "--json", told, "--other", REPOSITORY)
    done = run(sys.executable, "-m", "tools.benchmarks.ingest", *small)
    assert done.returncode == 0, done.stderr
    turns = json.loads(told.read_text())
    assert set(turns) == {"the other", "this one"}
    for rows in turns.values():
        assert set(rows) == {"base", "tuned", "small"}
        assert all(turn["nbytes"] > 2_000_000 for of_row in rows.values() for turn in of_row)
        assert all(turn["user_s"] > 0 and turn["resident_mib"] > 1 for of_row in rows.values() for turn in of_row)
    assert list(tmp_path.iterdir()) == [told]

"""What the reading benchmark does before it measures and after: models, statistics, tables. Nothing is mounted here."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from safetensors import deserialize

from tools.benchmarks.reading.__main__ import nbytes_of, parse_arguments
from tools.benchmarks.reading.contenders import LMZ, PLAIN, ZIPFS
from tools.benchmarks.reading.data import EMBEDDINGS, MODEL, Change, Model, make, models, shape_and_layers, size_of
from tools.benchmarks.reading.plot import panels
from tools.benchmarks.reading.reader import answer
from tools.benchmarks.reading.samples import (
    BASE_CACHED,
    COLD,
    GOALS,
    LOAD,
    RANDOM,
    READ,
    Sample,
    judge,
    percentile,
    to_csv,
)
from tools.benchmarks.reading.table import goals_markdown, print_all

TINY = 400_000


def tensors_of(folder: Path) -> dict[str, np.ndarray]:
    found = dict(deserialize((folder / MODEL).read_bytes()))  # type: ignore[no-untyped-call]
    return {name: np.frombuffer(info["data"], np.uint16) for name, info in found.items()}


def reading(number: int, contender: str, state: str, seconds: float) -> Sample:
    return Sample(number, READ, contender, state, 10**9, seconds)


SAMPLES = [
    *(reading(number, PLAIN, COLD, seconds) for number, seconds in enumerate((1.0, 4.0, 2.0))),
    *(reading(number, ZIPFS, BASE_CACHED, seconds) for number, seconds in enumerate((0.5, 2.0, 4.0))),
    reading(0, ZIPFS, COLD, 2.0),
    Sample(1, READ, ZIPFS, COLD, failure="no answer within 60 s"),
    Sample(0, RANDOM, ZIPFS, COLD, 500 * 4096, 1.0, p50_ms=0.4, p99_ms=9.0),
    Sample(0, LOAD, ZIPFS, COLD, failure="gone"),
]


def test_a_model_is_a_safetensors_file_that_its_configuration_describes(tmp_path: Path) -> None:
    model = Model("base", TINY, family=7)
    advanced: list[int] = []
    folder = make(model, tmp_path, advanced.append)
    found = tensors_of(folder)
    config = json.loads((folder / "config.json").read_text())
    assert found[EMBEDDINGS].size == config["vocab_size"] * config["hidden_size"]
    assert {int(name.split(".")[2]) for name in found if ".layers." in name} == set(range(config["num_hidden_layers"]))
    assert sum(tensor.nbytes for tensor in found.values()) == size_of(model) == sum(advanced)
    assert size_of(model) == pytest.approx(TINY, rel=0.3)


def test_the_same_request_gives_the_same_bytes(tmp_path: Path) -> None:
    model = Model("tuned", TINY, 1, 2, Change(0.003))
    one, other = (make(model, tmp_path / side) / MODEL for side in ("one", "other"))
    assert one.read_bytes() == other.read_bytes()


def test_a_fine_tune_moves_what_training_moves(tmp_path: Path) -> None:
    base = tensors_of(make(Model("base", TINY, 1), tmp_path))
    tuned = tensors_of(make(Model("tuned", TINY, 1, 1, Change(0.003)), tmp_path))
    partly = tensors_of(make(Model("partly", TINY, 1, 2, Change(0.003, frozen_layers=1)), tmp_path))
    matrix = "model.layers.1.mlp.up_proj.weight"
    assert np.mean(base[matrix] == tuned[matrix]) == pytest.approx(0.415, abs=0.03)
    assert np.mean(base[EMBEDDINGS] == tuned[EMBEDDINGS]) == pytest.approx(0.93, abs=0.04)
    matrices = {name for name in base if "_proj." in name or name == EMBEDDINGS}
    same = {name for name in matrices if np.array_equal(base[name], partly[name])}
    assert same == {name for name in matrices if name == EMBEDDINGS or ".layers.0." in name}


def test_models_come_close_to_the_size_that_was_asked_for() -> None:
    for model in models(1_600_000_000, 500_000_000, 8)[:-1]:
        assert size_of(model) == pytest.approx(model.nbytes, rel=0.05)
    shape, layers = shape_and_layers(1_600_000_000)
    assert (shape.hidden, layers) == (2048, 15)


def test_percentiles_are_values_that_occurred() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0], 0.99) == 3.0
    assert percentile(range(1, 501), 0.5) == 250
    assert percentile(range(1, 501), 0.99) == 495


def test_a_ratio_is_taken_within_each_round() -> None:
    cached, cold = (judge(goal, SAMPLES) for goal in GOALS[:2])
    assert cached.measured == 2.0 and cached.reached is True
    assert (cached.ours, cached.theirs) == (0.5, 0.5)
    assert cold.measured == 0.5 and cold.reached is False


def test_goals_on_times_are_upper_bounds() -> None:
    by_figure = {outcome.goal.figure: outcome for outcome in (judge(goal, SAMPLES) for goal in GOALS)}
    assert by_figure["p99_ms"].reached is False
    p50 = next(judge(goal, SAMPLES) for goal in GOALS if goal.what.startswith(RANDOM))
    assert p50.measured == 0.4 and p50.reached is True


def test_what_failed_is_said_and_counts_as_nothing() -> None:
    table = goals_markdown(SAMPLES, {"measured": "today"})
    assert "2 measurements failed" in table and "no answer within 60 s" in table
    rows = [line.split(" | ") for line in table.splitlines() if "≥" in line or "≤" in line]
    assert [row[3] for row in rows] == ["pass", "miss", "not measured", "pass", "miss", "not measured"]


def test_the_tables_can_be_printed() -> None:
    out = io.StringIO()
    print_all(Console(file=out, width=160), SAMPLES, {"cpu": "2 x [some]"})
    assert "2 x [some]" in out.getvalue() and "0.50 GB/s" in out.getvalue()


def test_samples_survive_their_csv_and_are_drawn() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(SAMPLES))))
    assert len(rows) == len(SAMPLES)
    assert float(rows[3]["gb_s"]) == 2.0
    drawn = panels(rows)
    assert drawn[f"{READ} (GB/s)"][PLAIN] == [1.0, 0.25, 0.5]
    assert set(drawn) == {f"{READ} (GB/s)", *(f"{RANDOM}, {part} (ms, less is better)" for part in ("p50", "p99"))}


@pytest.mark.parametrize(("mode", "times"), [("sequential", 1), ("files", 1), ("parts", 1), ("same", 8)])
def test_a_reader_reads_everything(tmp_path: Path, mode: str, times: int) -> None:
    path = tmp_path / "content"
    path.write_bytes(bytes(3_000_001))
    assert answer({"mode": mode, "paths": [str(path)]})["nbytes"] == 3_000_001 * times


def test_a_reader_times_single_reads(tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(bytes(4096 * 700))
    random = answer({"mode": "random", "paths": [str(path)], "seed": 1})["latencies_ms"]
    assert isinstance(random, list) and len(random) == 500
    assert answer({"mode": "first", "paths": [str(path)]})["nbytes"] == 1


def test_digests_tell_contents_apart(tmp_path: Path) -> None:
    found = set()
    for number in range(2):
        path = tmp_path / str(number)
        path.write_bytes(bytes([number]) * 2_000_000)
        found.add(answer({"mode": "digest", "paths": [str(path)]})["digest"])
    assert len(found) == 2


def test_arguments() -> None:
    assert nbytes_of("1.6G") == 1_600_000_000
    found = parse_arguments(["--quick", "--rows", "random,first", "--beside", "lmz"])
    assert (found.rounds, found.rows, found.beside) == (1, ["random", "first"], [LMZ])


@pytest.mark.parametrize("arguments", ["--rows nonsense", "--size much", "--beside x", "--rounds 0"])
def test_arguments_that_make_no_sense_are_refused(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(arguments.split())
    assert "error:" in capsys.readouterr().err

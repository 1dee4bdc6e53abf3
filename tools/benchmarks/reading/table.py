"""Shows what was measured: a table of its goals, one of all medians, and the former as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from tools.benchmarks.reading.samples import GOALS, Key, Outcome, Sample, judge, median

HEADINGS = ("what", "goal", "measured", "", "ZipFS", "against", "plain file beside")


def show(value: float | None, unit: str = "") -> str:
    """Three digits that count."""
    if value is None:
        return ""
    digits = next((digits for digits, least in enumerate((100, 10, 0.1)) if abs(value) >= least), 3)
    return f"{value:.{digits}f}{' ' if unit and unit != 'x' else ''}{unit}"


def cells(outcome: Outcome) -> list[str]:
    """One for each of HEADINGS."""
    goal = outcome.goal
    unit = {"gb_s": "GB/s", "seconds": "s"}.get(goal.figure, goal.unit)
    word = {True: "pass", False: "miss", None: "not measured"}[outcome.reached]
    bound = f"{'≥' if goal.at_least else '≤'} {goal.value:g}{'' if goal.unit == 'x' else ' '}{goal.unit}"
    return [
        goal.what,
        bound,
        show(outcome.measured, goal.unit),
        word,
        show(outcome.ours, unit),
        show(outcome.theirs, unit),
        show(outcome.beside, unit),
    ]


def outcomes(samples: Sequence[Sample]) -> list[Outcome]:
    """Of the goals of which anything was tried."""
    tried = {Key(sample.case, sample.contender, sample.state) for sample in samples}
    return [judge(goal, samples) for goal in GOALS if goal.ours in tried]


def goals_table(samples: Sequence[Sample], title: str) -> Table:
    table = Table(title=title, caption=f"Medians; ratios of samples of one round. {failures(samples)}".strip())
    for position, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if position in (0, 3) else "right")
    colours = {True: "green", False: "red", None: "yellow"}
    for outcome in outcomes(samples):
        row = cells(outcome)
        row[3] = f"[{colours[outcome.reached]}]{row[3]}[/]"
        table.add_row(*row)
    return table


def goals_markdown(samples: Sequence[Sample], about: Mapping[str, str]) -> str:
    """For a page: the machine, the table, and what failed."""
    lines = [", ".join(f"{name} {value}" for name, value in about.items()) + ".", ""]
    lines += [f"| {' | '.join(HEADINGS)} |", "|---" * len(HEADINGS) + "|"]
    lines += [f"| {' | '.join(cells(outcome))} |" for outcome in outcomes(samples)]
    failed = failures(samples)
    return "\n".join([*lines, *(["", failed] if failed else [])]) + "\n"


def figures_table(samples: Sequence[Sample]) -> Table:
    """Medians of every case, contender and state."""
    table = Table("what", "through", "cached", title="Everything measured (medians)")
    for heading in ("GB/s", "s", "p50 ms", "p99 ms", "reader CPU s", "daemon CPU s", "peak MiB"):
        table.add_column(heading, justify="right")
    previous = ""
    keys = dict.fromkeys(Key(sample.case, sample.contender, sample.state) for sample in samples)
    cases = list(dict.fromkeys(key.case for key in keys))
    for key in sorted(keys, key=lambda key: cases.index(key.case)):
        if previous not in ("", key.case):
            table.add_section()
        previous = key.case
        names = ("gb_s", "seconds", "p50_ms", "p99_ms", "reader_cpu_s", "daemon_cpu_s", "peak_mib")
        table.add_row(*key, *(show(median(samples, key, name)) for name in names))
    return table


def failures(samples: Iterable[Sample]) -> str:
    failed = [sample for sample in samples if sample.failure]
    if not failed:
        return ""
    said = dict.fromkeys(f"{sample.contender}, {sample.case}: {sample.failure}" for sample in failed)
    return f"{len(failed)} measurements failed: {'; '.join(said)}"


def print_all(console: Console, samples: Sequence[Sample], about: Mapping[str, str]) -> None:
    console.print(figures_table(samples))
    console.print(goals_table(samples, "Reach"))
    console.print(", ".join(f"{name} {value}" for name, value in about.items()), markup=False)

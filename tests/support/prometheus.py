"""A reader of Prometheus's text format 0.0.4 that takes nothing which the format does not say.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_HELP = re.compile(rf"# HELP ({_NAME}) ((?:[^\\]|\\\\|\\n)+)")
_TYPE = re.compile(rf"# TYPE ({_NAME}) (counter|gauge|histogram|summary|untyped)")
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\["\\n])*"'
_SAMPLE = re.compile(rf"({_NAME})(?:\{{({_LABEL}(?:,{_LABEL})*)\}})? (\S+)")
_UNESCAPED = {"\\n": "\n", "\\\\": "\\", '\\"': '"'}

Labels = frozenset[tuple[str, str]]


@dataclass(slots=True)
class Family:
    """Samples by (suffix of the name, labels)."""

    kind: str
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)

    def value(self, suffix: str = "", **labels: str) -> float:
        return self.samples[suffix, frozenset(labels.items())]


def parse(text: str) -> dict[str, Family]:
    """The families by name. Raises AssertionError for whatever is not as it has to be."""
    assert text.endswith("\n")
    families: dict[str, Family] = {}
    described = ""
    family: Family | None = None
    name = ""
    for line in text[:-1].split("\n"):
        if found := _HELP.fullmatch(line):
            described, family = found[1], None
            assert described not in families, line
        elif found := _TYPE.fullmatch(line):
            name = found[1]
            assert name == described, line
            assert name not in families, line
            families[name] = family = Family(found[2])
            assert (found[2] == "counter") == name.endswith("_total"), line
        else:
            found = _SAMPLE.fullmatch(line)
            assert found is not None, line
            assert family is not None, line
            assert found[1].startswith(name), line
            suffix = found[1].removeprefix(name)
            assert suffix in (("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)), line
            pairs = [pair.partition("=") for pair in re.findall(_LABEL, found[2] or "")]
            labels = {key: re.sub(r"\\.", lambda part: _UNESCAPED[part[0]], value[1:-1]) for key, _, value in pairs}
            assert len(labels) == len(pairs), line
            key = suffix, frozenset(labels.items())
            assert key not in family.samples, line
            family.samples[key] = float(found[3])
    for family in families.values():
        if family.kind == "histogram":
            _check_histogram(family)
    return families


def buckets(family: Family, **labels: str) -> list[tuple[float, float]]:
    """(upper bound, count of all that are not above it) of one histogram."""
    found = []
    for (suffix, have), count in family.samples.items():
        rest = dict(have)
        end = rest.pop("le", "")
        if suffix == "_bucket" and rest == labels:
            found.append((float(end), count))
    return found


def _check_histogram(family: Family) -> None:
    for suffix, labels in family.samples:
        if suffix == "_count":
            found = buckets(family, **dict(labels))
            assert found == sorted(found)
            assert [count for _, count in found] == sorted(count for _, count in found)
            assert found[-1] == (float("inf"), family.samples[suffix, labels])
            assert ("_sum", labels) in family.samples

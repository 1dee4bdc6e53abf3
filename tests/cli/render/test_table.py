"""Tables fit the terminal, whatever is in them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from zipfs.cli.render.table import Column, lay_out_table, shorten
from zipfs.host import printable

COLUMNS = (
    Column("name", number=False, least=8),
    Column("size"),
    Column("ratio", dispensable=1),
    Column("how", number=False, least=6),
    Column("next", number=False, least=6, dispensable=2),
)
ROWS = [
    ["a-very-long-name-of-a-tensor.weight", "1.0 MiB", "7.1%", "against another tensor", "something else entirely"],
    ["b", "12 B", "100.0%", "alone", ""],
]


def test_nothing_is_cut_where_there_is_room() -> None:
    lines = list(lay_out_table(COLUMNS, ROWS, None))
    assert len(lines) == 3
    assert lines[0].split() == ["name", "size", "ratio", "how", "next"]
    for cell in ROWS[0]:
        assert cell in lines[1]
    assert list(lay_out_table(COLUMNS, ROWS, 200)) == lines


def test_names_give_way_before_columns_do() -> None:
    lines = list(lay_out_table(COLUMNS, ROWS, 60))
    assert max(map(cell_len, lines)) == 60
    assert "…" in lines[1]
    assert lines[0].split() == ["name", "size", "ratio", "how", "next"]


def test_what_is_left_out_is_named() -> None:
    lines = list(lay_out_table(COLUMNS, ROWS, 30))
    assert lines[0].split() == ["name", "size", "how"]
    assert lines[-1] == "(left out for want of room: ratio, next)"
    assert max(cell_len(line) for line in lines[:-1]) <= 30


def test_numbers_stand_to_the_right() -> None:
    lines = list(lay_out_table([Column("n"), Column("t", number=False)], [["1", "a"], ["1000", "b"]], None))
    assert lines == ["   n  t", "   1  a", "1000  b"]


@given(rows=st.lists(st.lists(st.text(max_size=40), min_size=5, max_size=5)), width=st.integers(23, 200))
def test_no_line_is_wider_than_the_terminal(rows: list[list[str]], width: int) -> None:
    cells = [[printable(text) for text in row] for row in rows]
    short = [[row[0], row[1][:4], row[2][:5], row[3], row[4]] for row in cells]
    short = [[row[0], row[1] if cell_len(row[1]) <= 4 else "", *row[2:]] for row in short]
    lines = list(lay_out_table(COLUMNS, short, width))
    table = lines[: 1 + len(rows)]
    assert all(cell_len(line) <= width for line in table)


@given(text=st.text(max_size=60).map(printable), width=st.integers(1, 70))
def test_what_is_too_long_keeps_its_ends(text: str, width: int) -> None:
    short = shorten(text, width)
    assert cell_len(short) <= width
    if cell_len(text) <= width:
        assert short == text
    else:
        head, _, tail = short.partition("…")
        assert text.startswith(head)
        assert text.endswith(tail)

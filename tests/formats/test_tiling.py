"""Whatever tensors a parser names, their layout tiles the file."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zipfs.formats import Span
from zipfs.formats.tiling import tile

LENGTHS = st.integers(-3, 40)


@given(
    st.lists(st.builds(Span, LENGTHS, LENGTHS, st.just("U8"), st.just(()), st.sampled_from("abc"))), st.integers(0, 30)
)
def test_any_tensors_are_tiled(tensors: list[Span], nbytes: int) -> None:
    layout = tile("some", tensors, nbytes)
    end = 0
    for span in layout.spans:
        assert span.offset == end
        assert span.nbytes > 0
        end += span.nbytes
    assert end == nbytes
    names = [span.name for span in layout.spans if span.dtype]
    assert len(names) == len(set(names))
    assert {(span.offset, span.nbytes) for span in layout.spans if span.dtype} <= {
        (t.offset, t.nbytes) for t in tensors
    }


def test_bytes_between_tensors_are_plain() -> None:
    first, second = Span(4, 8, "F32", (2,), "a"), Span(20, 2, "U8", (2,), "b")
    layout = tile("some", [second, first], 30)
    plain = [Span(0, 4, "", (), None), Span(12, 8, "", (), None), Span(22, 8, "", (), None)]
    assert layout.spans == (plain[0], first, plain[1], second, plain[2])


def test_a_tensor_inside_another_is_part_of_it() -> None:
    outer, inner = Span(0, 10, "U8", (10,), "a"), Span(5, 10, "U8", (10,), "b")
    assert tile("some", [inner, outer], 20).spans == (outer, Span(10, 10, "", (), None))


def test_a_name_that_repeats_is_told_apart() -> None:
    spans = tile("some", [Span(at, 1, "U8", (1,), "a") for at in range(3)], 3).spans
    assert [span.name for span in spans] == ["a", "a at 1", "a at 2"]

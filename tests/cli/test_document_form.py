"""Forms of JSON documents."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipfs.cli.document_form import NUMBER, has_form

FORM = {"a": int, "b?": [str], "c": (None, {"d": NUMBER})}


@pytest.mark.parametrize(
    "document", [{"a": 1, "c": None}, {"a": 1, "b": [], "c": {"d": 1.5}}, {"a": 1, "b": ["x"], "c": {"d": 1}, "z": []}]
)
def test_documents_of_a_form(document: Any) -> None:
    assert has_form(document, FORM)


@pytest.mark.parametrize(
    "document",
    [None, [], {}, {"a": 1}, {"a": "1", "c": None}, {"a": True, "c": None}, {"a": 1.0, "c": None},
     {"a": 1, "b": "x", "c": None}, {"a": 1, "b": [1], "c": None}, {"a": 1, "c": {}}, {"a": 1, "c": {"d": "1"}}],
)  # fmt: skip
def test_documents_of_another_form(document: Any) -> None:
    assert not has_form(document, FORM)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(document=JSON)
def test_any_document_has_a_form_or_has_not(document: Any) -> None:
    assert has_form(document, FORM) in (True, False)

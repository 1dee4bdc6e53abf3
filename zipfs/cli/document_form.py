"""Check that a JSON document has the form that a command relies on, whoever wrote it. Pure."""

from __future__ import annotations

from typing import Any

NUMBER = (int, float)


def has_form(document: object, form: Any) -> bool:
    """Tell whether a document has a form.

    A form is a type, a tuple of forms of which one will do, a list of the one form of all items, or a dictionary of the
    forms of fields. A field whose name ends in `?` may be missing; fields that the form does not name may be anything.
    """
    if isinstance(form, tuple):
        return any(has_form(document, one) for one in form)
    if isinstance(form, list):
        return isinstance(document, list) and all(has_form(item, form[0]) for item in document)
    if isinstance(form, dict):
        return isinstance(document, dict) and all(_has_field(document, name, of) for name, of in form.items())
    return document is None if form is None else type(document) is form


def _has_field(document: dict[str, Any], name: str, form: Any) -> bool:
    if name.endswith("?"):
        return name[:-1] not in document or has_form(document[name[:-1]], form)
    return name in document and has_form(document[name], form)

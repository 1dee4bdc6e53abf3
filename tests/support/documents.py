"""The form of what `--json` prints, and a check of a document against it."""

from __future__ import annotations

from typing import Any

SIZES = {"nbytes": int, "stored_nbytes": int}
WAYS = {"*": SIZES}
PLACE = (None, {"path": str, "tensor": (None, str)})
FAMILIES = {
    **SIZES,
    "saved_nbytes": int,
    "added_nbytes": int,
    "kept_nbytes": int,
    "unused_nbytes": int,
    "index_nbytes": int,
    "freeable_nbytes": int,
    "other_formats": {"*": {"files": int, **SIZES}},
    "other_files": {"files": int, **SIZES},
    "spool": {"files": int, **SIZES},
    "families": [
        {
            "root": str,
            **SIZES,
            "saved_nbytes": int,
            "kept_nbytes": int,
            "members": [
                {
                    "path": str,
                    "parent": (None, str),
                    "files": int,
                    "tensors": int,
                    **SIZES,
                    "saved_nbytes": int,
                    "carried_nbytes": int,
                    "ways": WAYS,
                    "rests_on": [{"path": str, "nbytes": int}],
                }
            ],
        }
    ],
}
FILE = {
    "path": str,
    "type": str,
    "state": str,
    "format": (None, str),
    "kept_as_bytes": (None, str),
    **SIZES,
    "ways": WAYS,
    "bits_per_weight": (None, float),
    "tensors": [
        {
            "name": (None, str),
            "dtype": str,
            "shape": [int],
            "offset": int,
            **SIZES,
            "bits_per_weight": (None, float),
            "parts": [
                {
                    "offset": int,
                    "way": str,
                    **SIZES,
                    "blob_nbytes": int,
                    "blob_stored_nbytes": int,
                    "shared_with": PLACE,
                    "base": (None, {"of": PLACE, "dtype": str, "offset": int, "nbytes": int, "cast": (None, str)}),
                    "members": int,
                    "reason": (None, str),
                    "predicted": (
                        None,
                        {
                            "base_bits": (None, float),
                            "alone_bits": float,
                            "next_bits": (None, float),
                            "next": PLACE,
                        },
                    ),
                }
            ],
        }
    ],
}
SUMMARY = {
    "path": str,
    "type": str,
    "state": str,
    **SIZES,
    "ways": WAYS,
    "bits_per_weight": (None, float),
    "rests_on": [{"path": str, "nbytes": int}],
}
DIRECTORY = {"path": str, "type": str, **SIZES, "ways": WAYS, "files": [(SUMMARY, FILE)]}


def check(document: Any, schema: Any, where: str = "") -> None:
    """A document has a form: types at the leaves, {"*": form} for any keys, (a, b) for either."""
    if isinstance(schema, tuple):
        errors = []
        for one in schema:
            try:
                check(document, one, where)
            except AssertionError as error:
                errors.append(str(error))
            else:
                return
        raise AssertionError(f"{where}: {errors}")
    if isinstance(schema, list):
        assert isinstance(document, list), where
        for number, one in enumerate(document):
            check(one, schema[0], f"{where}[{number}]")
    elif isinstance(schema, dict):
        assert isinstance(document, dict), where
        for key, value in document.items():
            assert key in schema or "*" in schema, f"{where}: {key} is not documented"
            check(value, schema.get(key, schema.get("*")), f"{where}.{key}")
        assert set(schema) - {"*"} <= set(document), where
    elif schema is None:
        assert document is None, where
    else:
        assert type(document) is schema, f"{where}: {document!r} is no {schema}"

"""The page of a report, from what was gathered. Pure and deterministic: no date, no random order.

How much a page shows is bounded, however large the store: what is left out is counted on it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

import zipfs
from zipfs.cli.render.model_tree import model_name
from zipfs.cli.render.store_sizes import leftovers
from zipfs.cli.render.units import counted, percent, size
from zipfs.cli.report.detail import KINDS, LAYERS, MODELS, describe, grid_keys
from zipfs.cli.report.gather import DETAILED_FAMILIES, HEADERS_AT_MOST, Findings
from zipfs.cli.report.graph import LABELLED, NODES_AT_MOST, draw, shades
from zipfs.cli.report.markup import (
    METHODS,
    Title,
    cell,
    in_of,
    method_bar,
    name_cell,
    number_cell,
    size_cells,
    table,
    text,
)
from zipfs.cli.report.style import SCRIPT, STYLE
from zipfs.inspect.families import Family, FamilyReport, Member
from zipfs.inspect.storage_method import Share, Shares, StorageMethod, total
from zipfs.inspect.store_report import StoreReport
from zipfs.store.catalog.sizes import StoreSizes

DRAWN_FAMILIES: Final = 40
FAMILY_ROWS: Final = 200
MODEL_ROWS: Final = 1000
_LARGE: Final = 60
"""A family with more models, or with names in its drawing, gets more room."""


def page(name: str, findings: Findings) -> Iterator[str]:
    """Write the page, piece by piece; `name` is that of the store."""
    yield _head(name)
    yield from _totals(name, findings)
    yield from _drawings(findings.store.families)
    if findings.details:
        yield "<h2>Layer by layer</h2>"
        yield (
            "<p>What each weight of a tensor added to the store, in bits. Nothing (·) where it is the same as in"
            " another model; standalone, a weight takes ten or eleven bits in BF16.</p>"
        )
        yield grid_keys()
        for number, detail in enumerate(findings.details):
            yield from describe(number, detail)
    yield from _all_families(findings.store.families)
    yield from _all_models(findings.store.families)
    yield _foot()


def _head(name: str) -> str:
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{text(name)}: ZipFS report</title><style>{STYLE}</style></head><body><main>\n"
    )


def _totals(name: str, findings: Findings) -> Iterator[str]:
    found, inventory, sizes = findings.store.families, findings.store.inventory, findings.store.sizes
    saved = sizes.raw_nbytes - sizes.stored_nbytes
    related = [family for family in found.families if len(family.members) > 1]
    tensors = sum(member.tensors for family in found.families for member in family.members)
    yield f"<h1>{text(name)}</h1>"
    yield '<p class="mute">What this ZipFS store holds, what is related in it, and what that saves.</p>'
    tiles = [
        (size(sizes.raw_nbytes), f"in {counted(len(inventory.files), 'file')}"),
        (size(sizes.stored_nbytes), "is what the store takes for them"),
        (percent(saved, sizes.raw_nbytes) if saved > 0 else "-", f"saved: {size(max(saved, 0))}"),
        (f"{len(inventory.models):,}", "models"),
        (f"{len(related):,}", "families of two models or more"),
        (f"{tensors:,}", "tensors"),
    ]
    yield '<div class="tiles">'
    yield from (f"<div><b>{value}</b><span>{what}</span></div>" for value, what in tiles)
    yield "</div>"
    shares = _shares(findings.store)
    if shares:
        yield from _stored_how(shares)
    yield from _remarks(found, sizes)


def _stored_how(shares: Shares) -> Iterator[str]:
    sums = total(shares)
    yield "<h2>Stored how</h2>"
    for nbytes, what, stored in ((sums.nbytes, "of content", False), (sums.stored_nbytes, "in the store", True)):
        yield f'<div class="big"><span class="mute">{size(nbytes)} {what}</span>{method_bar(shares, stored)}</div>'
    rows = [
        [
            f"<td><i class='key w{int(method)}'></i>{method.label}</td>",
            cell(METHODS[method]),
            *size_cells(share.nbytes, share.stored_nbytes)[:3],
        ]
        for method, share in shares.items()
    ]
    yield table(
        [Title("how", number=False), Title("", number=False, wide=True), *_ADDED[:1], Title("added"), Title("of size")],
        rows,
    )


def _remarks(found: FamilyReport, sizes: StoreSizes) -> Iterator[str]:
    yield from (f"<p>{text(line.replace('`', ''))}.</p>" for line in leftovers(sizes))
    if found.spool_files:
        are = "is" if found.spool_files == 1 else "are"
        waiting = f"{counted(found.spool_files, 'file')} ({size(found.spool.nbytes)})"
        yield f"<p>{waiting} {are} not compressed yet.</p>"
    for ending, foreign in found.foreign.items():
        in_all = in_of(foreign.share.nbytes, foreign.share.stored_nbytes)
        yield f"<p>{text(counted(foreign.files, f'{ending} file'))}: {in_all}, kept as bytes.</p>"
    if found.foreign:
        yield "<p>No tensors were found in these; zipfs explain says of each why.</p>"
    if found.plain_files:
        in_all = in_of(found.plain.nbytes, found.plain.stored_nbytes)
        yield f"<p>{counted(found.plain_files, 'file')} outside of models: {in_all}.</p>"


def _shares(report: StoreReport) -> Shares:
    spool = report.families.spool.nbytes
    return {**report.inventory.shares(), **({StorageMethod.SPOOL: Share(spool, spool)} if spool else {})}


def _drawings(found: FamilyReport) -> Iterator[str]:
    related = [family for family in found.families if len(family.members) > 1]
    yield "<h2>Families</h2>"
    if not related:
        yield "<p>No two models in this store are related.</p>"
        return
    yield (
        "<p>A circle is a model, its area its size. It is joined to the model that most of its bytes rest on, because"
        " its tensors are coded against tensors there or are the same; dashed lines lead to others that much rests on."
        " The model in the middle, with a ring, carries most.</p>"
    )
    keys = "".join(f'<span><i class="key h{shade}"></i>{label}</span>' for label, shade in shades())
    yield f'<div class="keys"><span>added, of its size:</span>{keys}</div><div class="cards">'
    numbers = {id(family): number for number, family in enumerate(found.families)}
    for family in related[:DRAWN_FAMILIES]:
        yield _card(family, numbers[id(family)])
    yield "</div>"
    if len(related) > DRAWN_FAMILIES:
        yield f'<p class="mute">{len(related) - DRAWN_FAMILIES:,} families that saved less are not drawn.</p>'


def _card(family: Family, number: int) -> str:
    name = text(model_name(family.root.path))
    named = f'<a href="#f{number}">{name}</a>' if number < DETAILED_FAMILIES else name
    more = len(family.members) - NODES_AT_MOST
    left_out = f"<span>{more:,} of them are not drawn</span>" if more > 0 else ""
    sizes = in_of(family.nbytes, family.stored_nbytes)
    large = ' class="large"' if len(family.members) > _LARGE or len(family.members) <= LABELLED else ""
    return (
        f"<figure{large}>{draw(family)}<figcaption>{named}<span>{len(family.members):,} models, {sizes}</span>"
        f"{left_out}</figcaption></figure>\n"
    )


_ADDED = (Title("size"), Title("added", wide=True), Title("of size"), Title("saved", wide=True))


def _all_families(found: FamilyReport) -> Iterator[str]:
    ranked = found.families
    if not ranked:
        return
    yield "<h2>All families</h2>"
    rows = [
        [
            name_cell(model_name(family.root.path)),
            number_cell(f"{len(family.members):,}", len(family.members)),
            *size_cells(family.nbytes, family.stored_nbytes),
        ]
        for family in ranked[:FAMILY_ROWS]
    ]
    rest = ranked[FAMILY_ROWS:]
    if rest:
        rows.append([_more(rest, "families"), cell(""), *_sums(rest)])
    titles = [Title("root", number=False), Title("models"), *_ADDED]
    yield table(titles, rows, "sortable")


def _all_models(found: FamilyReport) -> Iterator[str]:
    models = sorted(
        (member for family in found.families for member in family.members),
        key=lambda member: (-member.nbytes, member.path),
    )
    if not models:
        return
    yield "<h2>All models</h2>"
    yield '<input data-for="models" placeholder="part of a name" aria-label="part of a name" hidden>'
    rows = [
        [
            name_cell(model_name(member.path)),
            *size_cells(member.nbytes, member.stored_nbytes),
            f"<td class=bars>{method_bar(member.shares)}</td>",
        ]
        for member in models[:MODEL_ROWS]
    ]
    rest = models[MODEL_ROWS:]
    if rest:
        rows.append([_more(rest, "models"), *_sums(rest), cell("")])
    titles = [Title("model", number=False), *_ADDED, Title("how", number=False)]
    yield f'<div id="models">{table(titles, rows, "sortable")}</div>'


def _more(rest: Sequence[Family] | Sequence[Member], what: str) -> str:
    return f"<td class=rest>{len(rest):,} more {what}</td>"


def _sums(rest: Sequence[Family] | Sequence[Member]) -> list[str]:
    return size_cells(sum(one.nbytes for one in rest), sum(one.stored_nbytes for one in rest))


def _foot() -> str:
    limits = (
        f"{DRAWN_FAMILIES} drawings of {NODES_AT_MOST} models, {DETAILED_FAMILIES} families layer by layer ({MODELS}"
        f" models, {LAYERS} layers, {KINDS} kinds of tensors each, from the headers of {HEADERS_AT_MOST:,} files),"
        f" {FAMILY_ROWS} families and {MODEL_ROWS:,} models by name"
    )
    return (
        f"<footer><p>Made by ZipFS {text(zipfs.__version__)}. A model is a directory that holds tensors; “added” is"
        " what its files added to the store: each blob counts for the oldest file that has it. Models are of one family"
        " if a hundredth of the smaller one rests on the other.</p>"
        f"<p>Shown are at most {limits}. Sums are over all of them. <code>zipfs families --json</code> and"
        " <code>zipfs explain</code> tell the rest.</p></footer>"
        f"\n</main><script>{SCRIPT}</script></body></html>\n"
    )

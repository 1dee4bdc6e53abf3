"""One family layer by layer: its models, and bits per weight by model, layer and kind of tensor. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from zipfs.cli.render.model_tree import model_name, tree_bars
from zipfs.cli.render.units import counted, size
from zipfs.cli.report.gather import OUTSIDE, FamilyDetail, Layer
from zipfs.cli.report.grid import LEVELS, Cell, Grid, binned, largest, level
from zipfs.cli.report.markup import Title, attribute, brief, cell, in_of, method_bar, name_cell, size_cells, table, text
from zipfs.inspect.families import Family

MODELS: Final = 30
LAYERS: Final = 40
KINDS: Final = 14


def describe(number: int, detail: FamilyDetail) -> Iterator[str]:
    """Write the section of a family; the first one is open."""
    family = detail.family
    count = len(family.members)
    sizes = f"{in_of(family.nbytes, family.stored_nbytes)}, {size(family.saved_nbytes)} saved"
    yield f'<details id="f{number}"{" open" if not number else ""}><summary>{text(model_name(family.root.path))}'
    yield f" <span>{counted(count, 'model')}, {sizes}</span></summary>"
    yield _members(family)
    layers = sorted(layer for layer in detail.by_model.columns if layer != OUTSIDE)
    if detail.by_model.rows:
        yield "<h4>Bits per weight by model and layer</h4>"
        yield _by_model(detail, _brief_names(family), binned(layers, LAYERS))
    dtype = detail.main_type()
    if dtype is not None:
        yield from _by_type(detail.by_kind[dtype], dtype, count)
    yield from _remarks(detail)
    yield "</details>"


def _by_type(grid: Grid[Layer, str], dtype: str, models: int) -> Iterator[str]:
    which = f"{dtype} tensors" + (" of all models but the first" if models > 1 else "")
    groups = binned(sorted(layer for layer in grid.rows if layer != OUTSIDE), LAYERS)
    yield '<div class="beside">'
    if groups:
        yield f"<div><h4>By layer and kind: {which}</h4>{_by_kind(grid, groups)}</div>"
    if OUTSIDE in grid.rows:
        yield f"<div><h4>Outside of layers: {which}</h4>{_outside(grid)}</div>"
    yield "</div>"


def _remarks(detail: FamilyDetail) -> Iterator[str]:
    if detail.unnamed_files:
        files = counted(detail.unnamed_files, "file is", "files are")
        yield f'<p class="mute">{files} left out: the headers cannot be read.</p>'
    if detail.unread_files:
        files = counted(detail.unread_files, "file is", "files are")
        yield f'<p class="mute">{files} left out: too many headers to read.</p>'


def _members(family: Family) -> str:
    titles = [
        Title("model", number=False),
        Title("size", wide=True),
        Title("added"),
        Title("of size"),
        Title("how", number=False),
    ]
    rows = [
        [
            name_cell(model_name(member.path), f"<span class=tree>{bars}</span>" if bars else ""),
            *size_cells(member.nbytes, member.stored_nbytes)[:3],
            f"<td class=bars>{method_bar(member.shares)}</td>",
        ]
        for member, bars in zip(family.members[:MODELS], tree_bars(family), strict=False)
    ]
    rest = family.members[MODELS:]
    if rest:
        sums = size_cells(sum(one.nbytes for one in rest), sum(one.stored_nbytes for one in rest))
        rows.append([f"<td class=mute>{counted(len(rest), 'more model')}</td>", *sums[:3], cell("")])
    return table(titles, rows)


def _brief_names(family: Family) -> list[str]:
    """Return the last parts of the paths, as many as tell the models apart."""
    parts = [model_name(member.path).split("/") for member in family.members]
    brief = ["/".join(part[-1:]) for part in parts]
    seen = Counter(brief)
    return [name if seen[name] == 1 else "/".join(part[-2:]) for name, part in zip(brief, parts, strict=True)]


def _by_model(detail: FamilyDetail, names: Sequence[str], groups: Sequence[Sequence[Layer]]) -> str:
    columns: list[Sequence[Layer]] = [[OUTSIDE]] if OUTSIDE in detail.by_model.columns else []
    columns += groups
    only = len({stack for group in groups for stack, _ in group}) == 1
    titles = "".join(f"<th>{_layer_title(group, only)}</th>" for group in columns)
    rows = sorted(detail.by_model.rows)
    lines = [
        f'<tr><th class="name" title="{attribute(model_name(detail.family.members[row].path))}">{text(names[row])}</th>'
        + "".join(_cell(detail.by_model.cell([row], group)) for group in columns)
        + "</tr>"
        for row in rows[:MODELS]
    ]
    if len(rows) > MODELS:
        cells = "".join(_cell(detail.by_model.cell(rows[MODELS:], group)) for group in columns)
        lines.append(f'<tr><th class="name mute">{len(rows) - MODELS:,} more</th>{cells}</tr>')
    return _grid_table(titles, lines)


def _by_kind(grid: Grid[Layer, str], groups: Sequence[Sequence[Layer]]) -> str:
    inside = [layer for group in groups for layer in group]
    sizes = {kind: grid.cell(inside, [kind]) for kind in grid.columns}
    kept, others = largest({kind: cell for kind, cell in sizes.items() if cell.weights}, KINDS)
    columns = [[kind] for kind in kept]
    titles = "".join(f'<th class="kind" title="{attribute(kind)}"><span>{brief(kind)}</span></th>' for kind in kept)
    if others:
        columns.append(others)
        titles += f'<th class="kind"><span>{len(others):,} others</span></th>'
    only = len({stack for stack, _ in inside}) == 1
    lines = [
        f'<tr><th class="name">{_layer_title(group, only)}</th>'
        + "".join(_cell(grid.cell(group, column)) for column in columns)
        + "</tr>"
        for group in groups
    ]
    return _grid_table(titles, lines)


def _outside(grid: Grid[Layer, str]) -> str:
    kinds = {kind: cell for (layer, kind), cell in grid.cells.items() if layer == OUTSIDE}
    kept, others = largest(kinds, KINDS)
    lines = [
        f'<tr><th class="name" title="{attribute(kind)}">{text(kind)}</th>{_cell(kinds[kind])}</tr>' for kind in kept
    ]
    if others:
        rest = _cell(grid.cell([OUTSIDE], others))
        lines.append(f'<tr><th class="name mute">{len(others):,} others</th>{rest}</tr>')
    return _grid_table("", lines)


def _layer_title(group: Sequence[Layer], only: bool) -> str:
    """Return the number of a layer, behind what it is a layer of if there are several such."""
    (stack, first), (last_stack, last) = group[0], group[-1]
    if group[0] == OUTSIDE:
        return "other"
    name = "" if only else f"{stack} "
    if len(group) == 1:
        return text(f"{name}{first}")
    return text(f"{name}{first}-{last}" if stack == last_stack else f"{name}{first} to {last_stack} {last}")


def _grid_table(titles: str, lines: Sequence[str]) -> str:
    classes = "grid" if titles else "grid single"
    head = f"<thead><tr><th></th>{titles}</tr></thead>" if titles else ""
    return (
        f'<div class="scroll fit"><table class="{classes}">{head}<tbody>\n{chr(10).join(lines)}\n</tbody></table></div>'
    )


def _cell(cell: Cell) -> str:
    bits = cell.per_weight
    if bits is None:
        return "<td></td>"
    value = "·" if bits == 0 else f"{bits:.2f}"[1:] if bits < 0.995 else f"{bits:.1f}" if bits < 9.95 else f"{bits:.0f}"
    return f"<td class=h{level(bits)}>{value}</td>"


def grid_keys() -> str:
    """Explain the colours."""
    labels = ["·", *(f"≤ {most:g}" for most in LEVELS[1:]), f"> {LEVELS[-1]:g}"]
    keys = "".join(f'<span><i class="key h{number}"></i>{label}</span>' for number, label in enumerate(labels))
    return f'<div class="keys">{keys}</div>'

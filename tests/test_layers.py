"""The rooms of ZipFS know only the rooms below them: no import runs upward, none runs in a circle. Modules stay short.

Imports inside functions and under TYPE_CHECKING count like any other.
"""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "zipfs"

BOTTOM = ("codec", "formats", "metrics")
"""Rooms that know nothing of a store."""

STORE = (
    "store.maintenance",
    "store.publish",
    "store",
    "store.directory",
    "store.namespace",
    "store.frames",
    "store.catalog",
    "store.packs.local",
    "store.packs",
    "store.objects",
    "store.marker",
    "store.disk",
)
"""The rooms of the store, from the top; each may import those behind it. `store` alone is what lies in none of them."""

LOCAL_PACKS = "store.packs.local"
MAKERS_OF_LOCAL_PACKS = frozenset({"store", "store.directory", "store.maintenance"})
"""The rooms that make the local pack backend; all others know packs by the protocol alone."""

BASES = ("bases", "bases.planning", "bases.similarity")

_ALLOWED: Mapping[str, frozenset[str]] = {
    "cli": frozenset({"mount", "vfs", "ingest", "library", "reading", "inspect", *BASES, *STORE, *BOTTOM}),
    "mount": frozenset({"vfs", "ingest", "library", "reading", *STORE, "metrics"}),
    "vfs": frozenset({"ingest", "reading", *STORE, "metrics"}),
    "ingest": frozenset({*BASES, *STORE, "codec", "formats"}),
    "library": frozenset({"reading", "inspect", *STORE, "metrics"}),
    "reading": frozenset({*STORE, "codec", "metrics"}),
    "inspect": frozenset({*BASES, *STORE, "codec", "formats"}),
    **{room: frozenset({*BASES[at + 1 :], *STORE, "codec"}) for at, room in enumerate(BASES)},
    **{room: frozenset({*STORE[at + 1 :], "codec"}) for at, room in enumerate(STORE)},
    **{room: frozenset() for room in BOTTOM},
}
ROOMS: Mapping[str, frozenset[str]] = {
    room: allowed if room in MAKERS_OF_LOCAL_PACKS else allowed - {LOCAL_PACKS} for room, allowed in _ALLOWED.items()
}
"""Room -> the other rooms that it may import."""

OPEN_TO_ALL = frozenset({"zipfs", "zipfs.dtypes", "zipfs.errors", "zipfs.host"})
"""What belongs to no room: it imports nothing of ours, and everything may import it."""

TENANTS: Mapping[str, frozenset[str]] = {
    "click": frozenset({"cli"}),
    "pyfuse3": frozenset({"mount"}),
    "rich": frozenset({"cli"}),
    "sqlite3": frozenset({"store.catalog"}),
    "sqlite_utils": frozenset({"store.catalog"}),
    "trio": frozenset({"mount"}),
}
"""Library -> the rooms that may import it: vfs has no word of FUSE, ingest knows no terminal."""


def modules_of(package: Path) -> dict[str, Path]:
    """Dotted name -> file (or stub) of every module in `package`; a package is named without `__init__`."""
    modules = {}
    for path in sorted([*package.rglob("*.py"), *package.rglob("*.pyi")]):
        parts = path.relative_to(package.parent).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def imported_names(module: str, path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """Absolute names that `module` imports: modules in `known` as exactly as they can be told, and other libraries."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_bytes(), filename=str(path))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=source, names=names, level=level):
                anchor = package.split(".")[: len(package.split(".")) - level + 1] if level else []
                origin = ".".join([*anchor, *([source] if source else [])])
                for alias in names:
                    submodule = f"{origin}.{alias.name}"
                    yield submodule if submodule in known else origin
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
                yield name
            case ast.Call(func=ast.Name(id="import_module"), args=[ast.Constant(value=str(name)), *_]):
                yield name
            case _:
                pass


def room_of(module: str) -> str:
    """The innermost room that a module of ours lies in; the module itself if it lies in none."""
    if module in OPEN_TO_ALL:
        return module
    parts = module.split(".")[1:]
    within = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((room for room in within if room in ROOMS), parts[0])


def violations(package: Path) -> list[str]:
    """One line for each import of `package` that the rooms forbid, and one for a circle if there is any."""
    modules = modules_of(package)
    found = [
        f"{module}: lies in no room" for module in modules if room_of(module) not in ROOMS and module not in OPEN_TO_ALL
    ]
    edges: dict[str, set[str]] = {}
    for module, path in modules.items():
        room = room_of(module)
        for name in imported_names(module, path, modules):
            library = name.split(".")[0]
            if library != package.name:
                if room not in TENANTS.get(library, {room}):
                    found.append(f"{module} imports {name}: only {', '.join(TENANTS[library])} may")
            elif name not in modules:
                found.append(f"{module} imports {name}: there is no such module")
            else:
                edges.setdefault(module, set()).add(name)
                target = room_of(name)
                if module in OPEN_TO_ALL:
                    found.append(f"{module} imports {name}: it may import nothing of ours")
                elif target != room and target not in ROOMS.get(room, ()) and name not in OPEN_TO_ALL:
                    found.append(f"{module} imports {name}: {room} may not import {target}")
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as error:
        found.append(f"imports run in a circle: {' <- '.join(error.args[1])}")
    return sorted(set(found))


SQL = re.compile(r"\b(SELECT\s.*\bFROM|INSERT\s.*\bINTO|UPDATE\s.*\bSET|DELETE\s+FROM)\b", re.DOTALL)


def sql_outside_the_catalog(package: Path) -> list[str]:
    """One line for each text of `package` that is SQL and stands elsewhere than in the room of the catalog."""
    found = []
    for module, path in modules_of(package).items():
        if room_of(module) == "store.catalog":
            continue
        lines = {line for line, text in texts(path) if SQL.search(text)}
        found += [f"{module}, line {line}: SQL stands in store.catalog alone" for line in sorted(lines)]
    return found


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and content of each string of a module; what an f-string puts in is left out."""
    for node in ast.walk(ast.parse(path.read_bytes(), filename=str(path))):
        match node:
            case ast.Constant(value=str(text)):
                yield node.lineno, text
            case ast.JoinedStr(values=parts):
                yield node.lineno, " ".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
            case _:
                pass


def test_every_import_keeps_to_the_rooms() -> None:
    assert "zipfs.errors" in modules_of(PACKAGE)
    assert violations(PACKAGE) == []


def test_sql_stands_in_the_room_of_the_catalog_alone() -> None:
    assert sql_outside_the_catalog(PACKAGE) == []


@pytest.mark.parametrize(
    "source",
    [
        "rows = query('SELECT id FROM blobs')",
        "rows = query(f'SELECT id, {more} FROM blobs')",
        "def f():\n    write('INSERT OR REPLACE INTO entries VALUES (1)')",
        "write('UPDATE counters'\n ' SET next = 1')",
        "X = ('DELETE FROM blobs'\n 'WHERE id = 1')",
    ],
)
def test_sql_elsewhere_is_found(tmp_path: Path, source: str) -> None:
    (found,) = sql_outside_the_catalog(build(tmp_path, {**HOUSE, "store/publish.py": source}))
    assert "store.publish" in found
    assert sql_outside_the_catalog(build(tmp_path / "other", {**HOUSE, "store/catalog/rows.py": source})) == []


def test_no_module_is_over_400_lines() -> None:
    lengths = {path.relative_to(PACKAGE): len(path.read_bytes().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {str(path): length for path, length in lengths.items() if length > 400} == {}


def test_every_docstring_stands_for_itself() -> None:
    """None begins with a word that needs the docstring before it."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            match node:
                case ast.Expr(value=ast.Constant(value=str(text))) if text.startswith(
                    ("The same", "Likewise", "Same ")
                ):
                    found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}: {text.splitlines()[0]}")
    assert found == []


def test_tests_lie_where_the_rooms_lie() -> None:
    """A folder of modules has a folder of tests at the same place."""
    folders = {path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")}
    tests = Path(__file__).parent
    assert sorted(str(folder) for folder in folders if not any((tests / folder).rglob("test_*.py"))) == []


def test_the_table_itself_has_no_circle() -> None:
    order = list(graphlib.TopologicalSorter(ROOMS).static_order())
    assert set(order) == set(ROOMS)


Tree = Mapping[str, str]

HOUSE: Tree = {
    "__init__.py": "__version__ = '1'",
    "errors.py": "class ZipfsError(Exception): ...",
    "cli/__init__.py": "from zipfs import __version__\nfrom zipfs.mount import daemon",
    "mount/__init__.py": "",
    "mount/daemon.py": "import pyfuse3\nfrom zipfs.ingest import seal\nfrom zipfs.vfs.tree import Tree",
    "vfs/__init__.py": "",
    "vfs/tree.py": "from zipfs.errors import NotFound\nfrom zipfs.reading import plan",
    "ingest/__init__.py": "",
    "ingest/seal.py": "import zipfs.bases\nimport zipfs.store.catalog\nfrom zipfs.formats import parse",
    "bases/__init__.py": "from zipfs.store.catalog import Catalog",
    "reading/__init__.py": "",
    "reading/plan.py": "import bisect\nfrom zipfs.codec import decode",
    "store/__init__.py": "",
    "store/store.py": "from zipfs.store.catalog.queries import Catalog",
    "store/maintenance/__init__.py": "",
    "store/maintenance/collect.py": "from zipfs.store.store import Catalog",
    "store/catalog/__init__.py": "from .queries import Catalog",
    "store/catalog/queries.py": "import sqlite3\nfrom zipfs.codec import decode\nfrom zipfs.store.packs import read",
    "store/packs/__init__.py": "",
    "store/packs/local.py": "",
    "formats/__init__.py": "def parse(): ...",
    "codec/__init__.py": "def decode(): ...",
}


def build(folder: Path, tree: Tree) -> Path:
    """Write `tree` (file name -> source) as a package called zipfs; returns its path."""
    package = folder / "zipfs"
    for name, source in tree.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return package


def test_a_tree_that_keeps_to_the_rooms_passes(tmp_path: Path) -> None:
    assert violations(build(tmp_path, HOUSE)) == []


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("codec/bitx.py", "from zipfs.store import catalog", "codec may not import store.catalog"),
        ("codec/bitx.py", "import zipfs.formats", "codec may not import formats"),
        ("reading/window.py", "from zipfs.bases import Catalog", "reading may not import bases"),
        ("mount/operations.py", "from zipfs.codec import decode", "mount may not import codec"),
        ("store/gc.py", "def collect():\n    from zipfs.ingest import seal", "store may not import ingest"),
        ("store/gc.py", "def collect():\n    from ..ingest import seal", "store may not import ingest"),
        ("store/gc.py", "from .. import ingest", "store may not import ingest"),
        ("store/gc.py", "import importlib\nimportlib.import_module('zipfs.ingest')", "store may not import ingest"),
        ("store/packs/file.py", "from zipfs.store.catalog import queries", "store.packs may not import store.catalog"),
        (
            "store/frames/cache.py",
            "from zipfs.store.packs import local",
            "store.frames may not import store.packs.local",
        ),
        ("mount/daemon.py", "from zipfs.store.packs.local import X", "mount may not import store.packs.local"),
        ("store/marker.py", "from zipfs.store.catalog import queries", "store.marker may not import store.catalog"),
        ("store/catalog/rows.py", "from zipfs.store import store", "store.catalog may not import store"),
        ("store/publish.py", "from zipfs.store.maintenance import collect", "publish may not import store.maintenance"),
        (
            "formats/gguf.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from zipfs.codec import decode",
            "formats may not import codec",
        ),
        ("errors.py", "from zipfs.codec import decode", "zipfs.errors imports zipfs.codec: it may import nothing"),
        ("helpers.py", "", "zipfs.helpers: lies in no room"),
        ("attic/__init__.py", "", "zipfs.attic: lies in no room"),
        ("vfs/adapter.py", "import pyfuse3.asyncio", "imports pyfuse3.asyncio: only mount may"),
        ("ingest/progress.py", "from rich.progress import track", "imports rich.progress: only cli may"),
        ("bases/index.py", "import sqlite3", "imports sqlite3: only store.catalog"),
        ("store/publish.py", "from sqlite3 import Error", "imports sqlite3: only store.catalog"),
        ("reading/window.py", "from zipfs.store.cellar import x", "there is no such module"),
        ("reading/plan.py", "from zipfs.reading.plan import Plan", "imports run in a circle"),
        ("store/catalog/queries.py", "from zipfs.store.catalog import Catalog", "imports run in a circle"),
    ],
)
def test_an_import_that_leaves_its_room_is_found(tmp_path: Path, name: str, source: str, expected: str) -> None:
    found = violations(build(tmp_path, {**HOUSE, name: source}))
    assert len(found) == 1
    assert expected in found[0]


def test_compressing_loads_nothing_of_the_kernels_interface() -> None:
    """What imports run in functions for: the worker and commands without a mount do without pyfuse3 and trio."""
    rooms = ("cli.commands.ingest", "ingest.worker", "ingest.import_tree", "mount.asking", "mount.points")
    modules = ", ".join(f"zipfs.{room}" for room in rooms)
    code = f"import sys, {modules}; print(sorted({{'pyfuse3', 'trio'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout == "[]\n"

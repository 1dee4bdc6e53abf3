"""Values and text that come from the host, bounded or escaped where they enter. Pure, and open to every room.

What a kernel, a shell or a person hands over may be larger than what is stored, or be read as something else where it
goes. Each kind is made safe here once; whoever takes one in calls this.
"""

from __future__ import annotations

import os
import sys
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Final

TIME_AT_MOST_NS: Final = (1 << 63) - 1
"""2262-04-11, the last instant that 64 bits hold in nanoseconds; the first is in 1677."""


def bounded_time_ns(time_ns: int) -> int:
    """A time that can be stored: what is earlier or later becomes the first or the last that can, as ext4 does."""
    return max(-TIME_AT_MOST_NS, min(TIME_AT_MOST_NS, time_ns))


def printable(path: bytes | str) -> str:
    """A path as text that any terminal and any line of a log takes, whatever bytes it is made of."""
    text = os.fsdecode(path)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)


_OPTION_NBYTES_AT_MOST: Final = 1024
_PROGRAMS: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT: Final = frozenset({"NOTIFY_SOCKET", "TMPDIR", "TZ"})
_LISTS_OF_DIRECTORIES: Final = ("PATH", "LD_LIBRARY_PATH")


def mount_option(name: str, value: str | bytes | Path) -> str:
    """`name=value` for a list of mount options, where a comma would begin the next one.

    All but letters, digits and harmless signs is written as in a URL, so the option is ASCII, reads well in
    /proc/mounts, and can be read back. Of what is too long the end is kept.
    """
    encoded = os.fsencode(value)
    quoted = urllib.parse.quote(encoded, safe="/+:@=")
    while len(quoted) > _OPTION_NBYTES_AT_MOST:
        encoded = encoded[len(encoded) // 8 + 1 :]
        quoted = "..." + urllib.parse.quote(encoded, safe="/+:@=")
    return f"{name}={quoted}"


def read_mount_option(value: str) -> str:
    """The value that `mount_option` wrote."""
    return os.fsdecode(urllib.parse.unquote_to_bytes(value))


def own_command(*arguments: str) -> list[str]:
    """A command line that runs `zipfs` with these arguments in a process of its own.

    The interpreter is isolated: neither the current directory nor PYTHON* variables nor a user's own packages can give
    it code to run, and it reads names as UTF-8 in any locale. It runs the very package that this process runs, and a
    crash in native code writes where to standard error.
    """
    program = Path(__file__).resolve().parent / "cli" / "__main__.py"
    return [sys.executable, "-I", "-X", "utf8", "-X", "faulthandler", str(program), *arguments]


def own_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what of an environment a daemon takes along; relative directories are dropped from lists of them."""
    kept = {
        name: value for name, value in environment.items() if name in _KEPT or name.startswith(("ZIPFS_", "MALLOC_"))
    }
    for name in _LISTS_OF_DIRECTORIES:
        absolute = [part for part in environment.get(name, "").split(":") if part.startswith("/")]
        if absolute:
            kept[name] = ":".join(absolute)
    return {"PATH": _PROGRAMS, **kept, "LC_ALL": "C.UTF-8"}

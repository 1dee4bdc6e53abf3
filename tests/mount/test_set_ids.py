"""Set-id bits go with the content and the owner that they were given to, as on a disk."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.mounts import Mount, poll_equal, run

pytestmark = pytest.mark.mount

OWNER, GROUP, OTHER_GROUP = 65534, 65534, 77
MODES = (0o6777, 0o4777, 0o2777, 0o6666, 0o2666, 0o6766)
WAYS = ("write", "append", "update", "truncate", "ftruncate", "open", "chown", "chown nothing", "read", "touch")
_CHANGE = """
import os, sys
for path in sys.argv[1:]:
    way = path.rpartition("/")[2].partition(",")[0]
    if way in ("write", "append", "update"):
        flags = {"write": os.O_WRONLY, "append": os.O_WRONLY | os.O_APPEND, "update": os.O_RDWR}[way]
        fd = os.open(path, flags)
        os.write(fd, b"y")
        os.write(fd, b"z")
        os.close(fd)
    elif way == "truncate":
        os.truncate(path, 1)
    elif way == "ftruncate":
        fd = os.open(path, os.O_WRONLY)
        os.ftruncate(fd, 1)
        os.close(fd)
    elif way == "open":
        os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
    elif way == "chown":
        os.chown(path, -1, os.getgid())
    elif way == "chown nothing":
        os.chown(path, -1, -1)
    elif way == "read":
        open(path, "rb").read()
    else:
        os.utime(path)
"""


@pytest.mark.parametrize("options", [(), ("--writeback-cache",)], ids=["", "writeback-cache"])
@pytest.mark.parametrize("who", ["root", "owner in the group", "owner in another group"])
def test_set_id_bits_go_as_on_a_disk(mounts: Callable[..., Mount], who: str, options: tuple[str, ...]) -> None:
    mount = mounts("--quiet", "3600", "--allow-other", *options).start()
    mount.store.parent.chmod(0o755)
    tops = [mount.store.parent / "plain", mount.ingest / "top"]
    for top in tops:
        top.mkdir()
        top.chmod(0o777)
        paths = [top / f"{way},{mode:o}" for way, mode in itertools.product(WAYS, MODES)]
        for path in paths:
            path.write_bytes(b"content")
            os.chown(path, OWNER, OTHER_GROUP if who.endswith("another group") else GROUP)
            path.chmod(int(path.name.partition(",")[2], 8))
        as_owner = () if who == "root" else ("setpriv", f"--reuid={OWNER}", f"--regid={GROUP}", "--clear-groups")
        run(*as_owner, "/usr/bin/env", "python3", "-c", _CHANGE, *paths)
    expected = _modes(tops[0])
    assert len(set(expected.values())) > len(MODES)  # some were cleared, and some stay
    poll_equal(lambda: _modes(tops[1]), expected)


def test_a_bit_that_is_set_while_a_file_is_written_goes_with_the_next_write(mounts: Callable[..., Mount]) -> None:
    """What is open for writing since before it got the bit loses it, too."""
    mount = mounts("--quiet", "3600", "--allow-other").start()
    mount.store.parent.chmod(0o755)
    (mount.ingest / "top").mkdir()
    (mount.ingest / "top").chmod(0o777)
    path = mount.ingest / "top" / "file"
    program = (
        "import os, sys\n"
        "fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)\n"
        "for piece in (b'a', bytes(100_000)):\n"
        "    os.chmod(sys.argv[1], 0o6755)\n"
        "    os.write(fd, piece)\n"
        "    print(oct(os.stat(sys.argv[1]).st_mode & 0o7777))\n"
    )
    as_owner = ("setpriv", f"--reuid={OWNER}", f"--regid={GROUP}", "--clear-groups")
    said = run(*as_owner, "/usr/bin/env", "python3", "-c", program, path)
    assert said.split() == ["0o755", "0o755"]


def _modes(top: Path) -> dict[str, str]:
    return {path.name: f"{stat.S_IMODE(path.stat().st_mode):o}" for path in top.iterdir()}

"""What fails in a tree of ZipFS and is expected to, and why: mostly what README.md says is not done."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tools.suites.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Excuse:
    """Tests of a suite by a pattern of `group/test`, or by one of what they say, and why they may fail."""

    suite: str
    pattern: str
    words: str
    reason: str


_ANY = ".*"
NO_SPECIAL_FILES = "named pipes, devices and sockets are refused"
NO_FALLOCATE = "fallocate is not offered"
ATIME = "reading moves no access time, as with noatime"

EXCUSES: tuple[Excuse, ...] = (
    Excuse("pjdfstest", r"rename/24:[4589]", _ANY, "directories have one link, as on btrfs"),
    Excuse("ltp", _ANY, r".*(mkfifo|mknod|bind)\(.*EPERM.*", NO_SPECIAL_FILES),
    Excuse("ltp", _ANY, r".*(mkfifo|mknod|bind)\(.*Operation not permitted.*", NO_SPECIAL_FILES),
    Excuse("ltp", r"fsetxattr/fsetxattr02", _ANY, NO_SPECIAL_FILES),
    Excuse("ltp", r"fallocate/fallocate03|mremap/mremap06", _ANY, NO_FALLOCATE),
    Excuse("xfstests", r"generic/(003|120|192)", _ANY, ATIME),
    Excuse("xfstests", r"generic/598", _ANY, NO_SPECIAL_FILES),
    Excuse("xfstests", r"generic/736", _ANY, "`.` and `..` are not listed, which POSIX leaves open"),
    Excuse("xfstests", r"generic/732", _ANY, "a store is mounted once for writing"),
    Excuse("xfstests", r"generic/451", _ANY, "the kernel: buffered reads beside direct writes may be stale on FUSE"),
)


def reason_for(suite: str, outcome: Outcome) -> str:
    """Return why a test may fail, or ""."""
    for excuse in EXCUSES:
        matches = re.fullmatch(excuse.pattern, outcome.key) and re.fullmatch(excuse.words, outcome.words)
        if excuse.suite == suite and matches:
            return excuse.reason
    return ""

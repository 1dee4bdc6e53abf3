"""Which names are known to be unfinished: they wait in the spool and are never served. Pure."""

from __future__ import annotations

import re
from typing import Final

# What writes them: hub downloads (*.incomplete, *.lock, .cache/huggingface), safetensors and browsers (.tmp*, *.part),
# rsync (.name.XXXXXX), curl and aria2 (*.download, *.aria2), git.
_FILE: Final = re.compile(
    rb"\.tmp.*|.*\.(incomplete|lock|part|partial|tmp|download|crdownload|aria2|swp)|\..+\.[A-Za-z0-9]{6}|~.*|.*~",
    re.DOTALL,
)
_DIRECTORY: Final = re.compile(rb"\.git|\.rsync-partial|\.~tmp~|\.tmp.*", re.DOTALL)


def is_unfinished(path: bytes) -> bool:
    """Whether a path below `ingest/` names something that is not meant to be seen yet."""
    *directories, name = path.split(b"/")
    if _FILE.fullmatch(name) or _DIRECTORY.fullmatch(name):
        return True
    if any(_DIRECTORY.fullmatch(directory) for directory in directories):
        return True
    return b".cache/huggingface/" in path + b"/"

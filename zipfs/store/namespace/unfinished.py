"""Names that say that something is not finished: it waits in the spool and is never served. Pure.

One table of what today's downloaders and savers use; a mount and `zipfs ingest` share it. A file is unfinished by its
own name, by that of a directory above it, or by a partner: a file beside it that its writer removes when it is done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Final

_KNOWN: Final = (
    rb"\.(safetensors|bin|pt|pth|ckpt|gguf|ggml|onnx|onnx_data|h5|hdf5|keras|msgpack|npz|npy|nemo|tflite|pb|distcp|metadata"
    rb"|json|jsonl|txt|md|model|parquet|arrow|csv|zip|tar|tgz|gz|bz2|xz|zst|7z|rar|img|iso|mp4|wav|png|jpg)"
)
"""What a name ends in that is something whole. `data.part` and `v1.tmp` are names that somebody chose."""

_PARTIAL_FILES: Final = (
    rb".*\.incomplete",  # huggingface_hub, datasets, modelscope
    rb"\.tmp.*",  # safetensors
    rb".*" + _KNOWN + rb"\.(tmp|temp|part|partial|download)",  # Firefox, yt-dlp, Transmission, LocalAI, conda, many
    rb".*\.[0-9a-f]{8,40}\.(tmp|part|partial)",  # rclone, torch.hub, references of huggingface_hub
    rb"\.metadata\.tmp",  # torch.distributed.checkpoint
    rb"sha256-[0-9a-f]{64}-partial(-\d+)?|sha256-\d{1,10}",  # Ollama
    rb".*\.(crdownload|opdownload|fdmdownload|smdownload|downloading)",  # browsers, FDM, InvokeAI
    rb".*\.downloadInProgress",  # llama.cpp
    rb"downloading_.+\.part",  # LM Studio
    rb"incomplete-.*" + _KNOWN,  # GPT4All
    rb".*" + _KNOWN + rb"\d{5,}",  # s5cmd
    rb".*_\.(gstmp|gztmp)",  # gsutil, gcloud storage
    rb"\.azDownload-.*",  # azcopy
    rb".*\.(aria2|aria2__temp|ytdl|lftp-pget-status)",  # what aria2, yt-dlp and lftp remember beside a file
    rb".*\.(!qB|!ut|!bt|bc!|az!)",  # qBittorrent, uTorrent, BitComet, Vuze
    rb"\.[0-9a-f]{40}\.parts",  # libtorrent
    rb".*\.tempstate\d+",  # TensorFlow
    rb"(dir|oci)-put-blob\d+",  # skopeo
    rb"\.nfs[0-9a-f]{16,}|\.fuse_hidden.*",  # removed, and still open somewhere
    rb"\..+\.sw[a-p]",  # vim
    rb"\.syncthing\..*\.tmp|~syncthing~.*|\.unison\..*\.unison\.tmp|\..+\.~[0-9a-f]+",  # ownCloud, Nextcloud
)
_MKSTEMP: Final = re.compile(rb"\..+\.([A-Za-z0-9]{6})", re.DOTALL)
"""rsync's `.name.XXXXXX`. Six random characters hardly ever are a word: `.env.sample`, `.dvc.config` are none of it."""
_S3: Final = re.compile(rb".+\.([0-9a-fA-F]{8})", re.DOTALL)
"""boto3 and the AWS CLI: `name.6eF5b5dA`. Dates have digits only, hashes are in lower case."""

_PARTNER_SUFFIXES: Final = (b".aria2", b".lftp-pget-status", b".st", b".ytdl")
"""While NAME with one of these stands beside NAME, NAME is not done: aria2, lftp, axel, yt-dlp."""
_STEM_PARTNER: Final = b"-unfinished"
"""NeMo keeps an empty STEM-unfinished beside STEM.ckpt."""
_PLACEHOLDER_SUFFIXES: Final = (b".part", b".crdownload")
"""Some keep an empty NAME beside it."""
_SENTINEL: Final = b"checkpoint-is-incomplete.txt"
"""transformers.Trainer: nothing beside it is done."""

_BOOKKEEPING: Final = (
    rb"\.git|\.hg|\.svn",
    rb"\.locks|\.no_exist",  # huggingface_hub's cache
    rb"\._____temp",  # modelscope
    rb"\.rsync-partial|\.~tmp~",
    rb"\.dropbox\.cache|\.stfolder|\.stversions",
)
_PARTIAL_DIRECTORIES: Final = (
    rb"\.tmp.*",
    rb"tmp-checkpoint-.*",  # transformers.Trainer
    rb".*\.orbax-checkpoint-tmp.*",
    rb".*" + _KNOWN + rb"\.download",  # Safari
    rb"incomplete\.\w{6}_.*",  # TensorFlow Datasets
)
_HUB_CACHE: Final = b".cache/huggingface"


def _any_of(patterns: Iterable[bytes]) -> re.Pattern[bytes]:
    return re.compile(b"|".join(b"(?:%s)" % pattern for pattern in patterns), re.DOTALL)


_FILE: Final = _any_of(_PARTIAL_FILES)
_BOOKS: Final = _any_of(_BOOKKEEPING)
_DIRECTORY: Final = _any_of(_PARTIAL_DIRECTORIES)

NONE: Final = "none"
"""As a pattern: forget the table."""


def _is_mixed(suffix: bytes) -> bool:
    """Whether there are capitals and small letters, and not as a word has them: drawn, not written."""
    return suffix not in (suffix.lower(), suffix.upper(), suffix.capitalize())


def _is_drawn(suffix: bytes) -> bool:
    """Whether characters look drawn and not written."""
    return _is_mixed(suffix) or not (suffix.isalpha() or suffix.isdigit())


def _is_partial_file(name: bytes) -> bool:
    if _FILE.fullmatch(name) or name == _SENTINEL:
        return True
    mkstemp, s3 = _MKSTEMP.fullmatch(name), _S3.fullmatch(name)
    return (mkstemp is not None and _is_drawn(mkstemp[1])) or (s3 is not None and _is_mixed(s3[1]))


def _no_partner(_: bytes) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class UnfinishedNames:
    """The names that wait: those of the table, unless `standard` is off, and what the globs in `patterns` match.

    A glob with a slash is compared with the path below `ingest/`, any other with the name of the file and of each
    directory above it.
    """

    standard: bool = True
    patterns: tuple[str, ...] = ()
    _globs: tuple[tuple[bool, re.Pattern[bytes]], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        globs = tuple(
            ("/" in text, re.compile(translate(text).encode("utf-8", "surrogateescape"))) for text in self.patterns
        )
        object.__setattr__(self, "_globs", globs)

    @classmethod
    def from_options(cls, options: Sequence[str]) -> UnfinishedNames:
        """Read what `--unfinished` says, given any number of times."""
        return cls(NONE not in options, tuple(text for text in options if text != NONE))

    def covers(
        self,
        path: bytes,
        *,
        is_directory: bool = False,
        is_empty: bool = False,
        stands_beside: Callable[[bytes], bool] = _no_partner,
    ) -> bool:
        """Whether what a path below `ingest/` names is unfinished.

        `stands_beside` tells whether a name stands in the same directory, `is_empty` whether the file has no bytes.
        """
        *directories, name = path.split(b"/")
        if is_directory:
            directories.append(name)
        if self._excluded(path, directories, name):
            return True
        if not self.standard:
            return False
        if self.keeper(path) or any(_DIRECTORY.fullmatch(directory) for directory in directories):
            return True
        if is_directory:
            return False
        if _is_partial_file(name) or (is_empty and name != _STEM_PARTNER and name.endswith(_STEM_PARTNER)):
            return True
        partners = [*(name + suffix for suffix in _PARTNER_SUFFIXES), _SENTINEL]
        if b"." in name:
            partners.append(name.rpartition(b".")[0] + _STEM_PARTNER)
        if is_empty:
            partners += [name + suffix for suffix in _PLACEHOLDER_SUFFIXES]
        return any(stands_beside(partner) for partner in partners)

    def _excluded(self, path: bytes, directories: Sequence[bytes], name: bytes) -> bool:
        names = [*directories, name]
        return any(
            glob.fullmatch(path) if whole else any(glob.fullmatch(part) for part in names)
            for whole, glob in self._globs
        )

    def keeper(self, path: bytes) -> bytes:
        """The directory at or above a path in which a tool keeps its books, such as `.git`; b"" if there is none.

        What is in it stays below `ingest/` however long it is quiet.
        """
        if not self.standard:
            return b""
        parts = path.split(b"/")
        for count, part in enumerate(parts, start=1):
            above = b"/".join(parts[:count])
            if _BOOKS.fullmatch(part) or (b"/" + above).endswith(b"/" + _HUB_CACHE):
                return above
        return b""


STANDARD: Final = UnfinishedNames()

"""LTP's tests of the system calls that reach a file system, in a tree. `--sources` holds it built, in ltp/."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tools.suites.outcome import FAIL, PASS, SKIP, Done, Outcome, run
from tools.suites.places import Place

NEEDED = Path("ltp/testcases/kernel/syscalls/open/open01")
LIST = Path("ltp/runtest/syscalls")
CALLS = Path("ltp/testcases/kernel/syscalls")
DIRECTORIES = """
    access chdir chmod chown chroot close copy_file_range creat dup dup2 dup3 execve execveat faccessat faccessat2
    fadvise fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock
    fpathconf fremovexattr fsetxattr fstat fstatat fstatfs fsync ftruncate futimesat getcwd getdents getxattr inotify
    io_submit io_uring lchown lgetxattr link linkat listxattr llistxattr llseek lremovexattr lseek lstat mincore mkdir
    mkdirat mknod mknodat mmap mremap msync munmap name_to_handle_at nftw open open_by_handle_at openat openat2
    pathconf pread preadv preadv2 pwrite pwritev pwritev2 read readahead readdir readlink readlinkat readv realpath
    removexattr rename renameat renameat2 rmdir sendfile setxattr splice stat statfs statvfs statx symlink symlinkat
    sync sync_file_range syncfs truncate umask unlink unlinkat utime utimensat utimes write writev
"""
OF_A_DEVICE = re.compile(r"\.(all_filesystems|mount_device|needs_device|format_device)\s*=\s*1")
"""A test that makes a file system of its own says nothing about this one."""
FAILED, LEFT_OUT = 1 | 2, 32
TEST_S = 300.0
SLOWER = "4"
DESCRIPTORS = 1024
"""Some tests open as many files as they may."""


def try_in(place: Place, sources: Path) -> Iterator[Outcome]:
    logs = place.folder / "logs"
    with place.opened() as directory:
        logs.mkdir()
        for group, test, command in tests_of(sources):
            home = directory / test
            home.mkdir()
            home.chmod(0o777)
            done = run(
                ["sh", "-c", f"ulimit -n {DESCRIPTORS} && {command}"],
                cwd=sources / CALLS / group,
                timeout_s=TEST_S,
                output=logs / test,
                environment={
                    "TMPDIR": str(home),
                    "PATH": f"{sources / CALLS / group}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "LTPROOT": str(sources / "ltp"),
                    "LTP_TIMEOUT_MUL": SLOWER,
                    "LTP_COLORIZE_OUTPUT": "n",
                    "KCONFIG_SKIP_CHECK": "1",
                },
            )
            yield outcome_of(group, test, done)
        yield from place.check()


def tests_of(sources: Path) -> Iterator[tuple[str, str, str]]:
    """Directory, name and command line of each test that was built."""
    where = {
        path.name: directory
        for directory in DIRECTORIES.split()
        for path in (sources / CALLS / directory).glob("*")
        if path.suffix == "" and path.is_file() and path.stat().st_mode & 0o111
    }
    for line in (sources / LIST).read_text().splitlines():
        test, _, command = line.partition(" ")
        program = command.strip().split(" ")[0]
        if line.startswith("#") or program not in where:
            continue
        source = sources / CALLS / where[program] / f"{re.sub('_(16|64)$', '', program)}.c"
        if not source.is_file() or not OF_A_DEVICE.search(source.read_text(errors="replace")):
            yield where[program], test, command.strip()


def outcome_of(group: str, test: str, done: Done) -> Outcome:
    if done.code is None or done.code < 0 or done.code & FAILED:
        said = [line for line in done.text.splitlines() if re.search("TFAIL|TBROK", line)]
        words = " | ".join(re.sub(r"^\S+:\d+: ", "", line) for line in said[:2]) or done.last()
        return Outcome(group, test, FAIL, f"{done.code}: {words}"[:200])
    if done.code & LEFT_OUT:
        return Outcome(group, test, SKIP, done.last(1))
    return Outcome(group, test, PASS)

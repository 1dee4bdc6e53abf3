"""Who may know what: the rules without a mount."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zipfs.store.objects.values import Inode, InodeId, Kind, State
from zipfs.vfs.visibility import Requester, status_for_others

INODE = Inode(InodeId(7), Kind.FILE, State.OPEN, 0o640, 1000, 100, 0, 0, 0)
READ = 4


@pytest.mark.parametrize(
    ("mode", "uid", "groups", "may"),
    [
        (0o640, 1000, (), True),
        (0o640, 1001, (100,), True),
        (0o640, 1001, (101, 100), True),
        (0o640, 1001, (101,), False),
        (0o604, 1001, (101,), True),
        (0o044, 1000, (100,), False),  # the owner's own bits count for the owner, and no others
        (0o604, 1001, (100,), False),  # and those of the group for its members
    ],
)
def test_rights_are_those_of_the_first_class_that_fits(mode: int, uid: int, groups: tuple[int, ...], may: bool) -> None:
    assert Requester(uid, frozenset(groups)).may(READ, replace(INODE, mode=mode)) is may


def test_a_status_that_grows_tells_others_numbers_and_paths_that_they_can_find() -> None:
    document = {
        "version": "1",
        "queued_files": 3,
        "worker": {"file": "secret", "deaths": 3, "ended": "ended with code 1", "last_words": ["cannot read secret"]},
        "errors": [{"path": "secret", "error": "bad"}, {"path": "known", "error": "bad"}],
        "unfinished_files": ["known", "secret"],
        "hints": ["secret is in use"],
        "to come": "secret",
        "more to come": [["secret"], {"name": "secret"}],
    }
    told = status_for_others(document, lambda path: path == b"known")
    assert "secret" not in str(told)
    assert told["queued_files"] == 3
    assert told["errors"] == [{"path": "known", "error": "bad"}]
    assert told["unfinished_files"] == ["known"]
    # Whoever waits has to know that nothing will come.
    assert told["worker"] == {"deaths": 3, "ended": "ended with code 1", "last_words": []}

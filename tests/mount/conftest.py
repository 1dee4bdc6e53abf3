"""Mounts for the tests of this folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.mounts import Mount, temporary_mounts


@pytest.fixture
def mounts() -> Iterator[Callable[..., Mount]]:
    """Makes mounts that one test has for itself; `start` mounts them."""
    with temporary_mounts(Path(tempfile.mkdtemp(prefix="zipfs-mount-"))) as make:
        yield make


@pytest.fixture
def mount(mounts: Callable[..., Mount]) -> Mount:
    """A fresh mount."""
    return mounts().start()


@pytest.fixture(scope="module")
def shared() -> Iterator[Mount]:
    """A mount that the tests of a module use together, each below names of its own."""
    with temporary_mounts(Path(tempfile.mkdtemp(prefix="zipfs-shared-"))) as make:
        yield make().start()

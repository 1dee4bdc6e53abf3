"""Owns how native code is built; everything else about the package stands in pyproject.toml.

One build runs on any machine of its architecture: wider instructions are chosen at run time, so none may be named here.
"""

from __future__ import annotations

from glob import glob

from setuptools import Extension, setup


def native(room: str, *more: str) -> Extension:
    """The extension of a room, all C files of its folder `native`."""
    folder = f"zipfs/{room.replace('.', '/')}/native"
    return Extension(
        f"zipfs.{room}._native",
        sources=sorted(glob(f"{folder}/*.c")),
        depends=sorted(glob(f"{folder}/*.h")),
        extra_compile_args=[
            "-O3",
            "-std=gnu11",
            "-fvisibility=hidden",
            "-Wall",
            "-Wextra",
            "-Wno-unused-parameter",
            *more,
        ],
    )


setup(
    ext_modules=[
        # Encoders weigh costs in floating point; all instruction sets are to come to the same choice.
        native("codec", "-fno-strict-aliasing", "-ffp-contract=off"),
        native("store.frames"),
        native("store.packs"),
        native("mount"),
    ]
)

"""Owns how the native codecs are built; everything else about the package stands in pyproject.toml.

One build runs on any machine of its architecture: wider instructions are chosen at run time, so none may be named here.
"""

from __future__ import annotations

from glob import glob

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "zipfs.codec._native",
            sources=sorted(glob("zipfs/codec/native/*.c")),
            depends=sorted(glob("zipfs/codec/native/*.h")),
            extra_compile_args=[
                "-O3",
                "-std=gnu11",
                "-fno-strict-aliasing",
                # Encoders weigh costs in floating point; all instruction sets are to come to the same choice.
                "-ffp-contract=off",
                "-fvisibility=hidden",
                "-Wall",
                "-Wextra",
                "-Wno-unused-parameter",
            ],
        )
    ]
)

"""Translate the options that mount(8) and /etc/fstab give as `-o a,b=c` to those of `zipfs mount`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import click

_OF_THE_KERNEL: Final = frozenset({"noexec", "noatime", "nodiratime"})
_MEANINGLESS: Final = frozenset(
    {
        *("defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev"),
        *("rw", "exec", "suid", "nosuid", "dev", "nodev", "async", "atime", "relatime", "diratime"),
        *("default_permissions", "nonempty"),
    }
)
"""For mount(8) or systemd alone, or as every mount of ZipFS is in any case. It has no set-user-id programs and no
devices, whatever is asked for: mount(8) passes `suid` and `dev` on when nobody forbids them.
"""
_HIDDEN_FROM_FSTAB: Final = frozenset({"foreground", "help"})


class MountCommand(click.Command):
    """A command that takes `-o` as mount(8) gives it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {
            name.removeprefix("--"): option
            for option in self.params
            if isinstance(option, click.Option) and not option.hidden and option.name not in _HIDDEN_FROM_FSTAB
            for name in option.opts
            if name.startswith("--")
        }
        return super().parse_args(ctx, list(_translated(args, own, ctx)))


def _translated(args: Sequence[str], own: Mapping[str, click.Option], ctx: click.Context) -> Iterator[str]:
    """Yield the arguments, with an option of the command for each that `-o` names; after `--` there are none."""
    rest = iter(args)
    for argument in rest:
        if argument == "--":
            yield argument
            yield from rest
        elif argument == "-o":
            value = next(rest, None)
            if value is None:
                raise click.BadOptionUsage("-o", "Option '-o' requires an argument.", ctx)
            yield from _options(value, own, ctx)
        elif argument.startswith("-o"):
            yield from _options(argument[2:], own, ctx)
        else:
            yield argument


def _options(text: str, own: Mapping[str, click.Option], ctx: click.Context) -> Iterator[str]:
    for item in filter(None, text.split(",")):
        name, given, value = item.partition("=")
        option = own.get(name.replace("_", "-"))
        if name == "ro":
            yield "--read-only"
        elif name in _OF_THE_KERNEL:
            yield f"--kernel-option={name}"
        elif name in _MEANINGLESS or name.startswith(("x-", "X-", "comment")):
            continue
        elif option is None or option.is_flag == bool(given):
            raise click.BadOptionUsage("-o", f"-o {item}: no such option of a ZipFS mount", ctx)
        else:
            yield f"{option.opts[-1]}={value}" if given else option.opts[-1]


def as_arguments(command: click.Command, values: Mapping[str, Any], *, without: frozenset[str]) -> list[str]:
    """Return the options of a command as they were given, for another process."""
    arguments = []
    for option in command.params:
        if isinstance(option, click.Option) and option.name not in without:
            value = values.get(option.name or "")
            for item in value if isinstance(value, tuple | list) else (value,):
                if item is True:
                    arguments.append(option.opts[-1])
                elif item is not None and item is not False:
                    arguments.append(f"{option.opts[-1]}={item}")
    return arguments

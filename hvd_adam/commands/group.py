"""A group of commands that names the nearest one where a name is wrong."""

from __future__ import annotations

import difflib
from typing import Any

import click


class NearestGroup(click.Group):
    """click's group, with a hint."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name and self.get_command(ctx, name) is None and not name.startswith("-"):
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(self.list_commands(ctx))}."
            ctx.fail(f"there is no command {name!r}. {hint}")
        return super().resolve_command(ctx, args)

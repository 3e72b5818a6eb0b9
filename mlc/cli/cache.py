"""`mlc cache`: what the compile cache holds, and how to make it smaller."""

import time

import click

from mlc.cache import Cache, Entry, default_root
from mlc.cli.table import table
from mlc.errors import ResourceError
from mlc.options import format_size, parse_size


@click.group()
def command() -> None:
    """List, clear or prune the compile cache."""


def _open() -> Cache:
    cache = Cache.default()
    if cache is None:
        raise ResourceError("the cache is turned off (MLC_CACHE_SIZE=0)")
    return cache


@command.command("ls")
def list_entries() -> None:
    """List what the cache holds, the most recently used first."""
    cache = _open()
    entries = cache.entries()[::-1]
    if entries:
        click.echo(table([_row(e) for e in entries], ("id", "model", "size", "last used", "target")))
    click.echo(f"{len(entries)} entries, {format_size(sum(e.bytes for e in entries))} of {format_size(cache.max_bytes)}, in {cache.root}")


@command.command()
def clear() -> None:
    """Remove every entry."""
    click.echo(f"removed {_open().clear()} entries from {default_root()}")


@command.command()
@click.option("--size", metavar="SIZE", help="Keep at most this much; default: the cache's limit.")
def prune(size: str | None) -> None:
    """Remove the least recently used entries, and what dead processes left behind."""
    gone = _open().prune(None if size is None else parse_size(size, "--size"))
    click.echo(f"removed {len(gone)} entries, {format_size(sum(e.bytes for e in gone))}")


def _row(entry: Entry) -> list[str]:
    used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
    return [entry.id, entry.info.get("model", "?"), format_size(entry.bytes), used, entry.info.get("target", "?")]

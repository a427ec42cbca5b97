"""`barewire inspect`: what is in a file, a line or a JSON object a message."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .._defaults import DEFAULT_PROTOCOL
from ._options import FileArgument, FormatOption, JsonOption, ProtocolOption, refuse_terminal
from ._terminal import warn

__all__ = ["inspect"]


def inspect(
    file: FileArgument,
    protocol: ProtocolOption = DEFAULT_PROTOCOL,
    as_json: JsonOption = False,
    types: Annotated[str | None, typer.Option(help="Only messages of these type codes: AFE.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Stop after this many messages.")] = None,
    file_format: FormatOption = None,
) -> None:
    """Print every message of a capture or an exchange file: tcpdump for exchange packets.

    Field names are the specification's, in snake case; integers are as on the wire, text without its padding. With
    --json each object also has message, type, sequence and ts_recv (ns since 1970; null where the file has no times).
    """
    refuse_terminal(file)
    from .. import _core
    from .._replay import check_protocol, naming, open_source

    check_protocol(protocol)
    name, source = open_source(file)
    codes = types.replace(",", "") if types else None
    with naming(name):
        lines = _core.Inspector(source, protocol=protocol, format=file_format, json=as_json, types=codes, limit=limit)
    write, flush = sys.stdout.write, sys.stdout.flush
    try:
        for chunk in lines:
            write(chunk)
            flush()
    finally:
        for line in lines.warnings:
            warn(line)

"""Shoppers' ids as they come to a command: a word of the command line, or lines of standard input."""

from __future__ import annotations

import sys

import typer


def id_given(word: str) -> str:
    """Return one shopper's id, read from standard input for `-`; `typer.BadParameter` for none or several."""
    names = ids_given(word)
    if len(names) > 1:
        raise typer.BadParameter(
            f"standard input has {len(names)} lines; give one id, and --yes where a question would be asked",
            param_hint="ID",
        )
    return names[0]


def ids_given(word: str) -> list[str]:
    """Return shoppers' ids, one a line of standard input for `-`; `typer.BadParameter` for an empty one or none."""
    names = _lines() if word == "-" else [word]
    if not all(names) or not names:
        raise typer.BadParameter("a shopper's id is empty", param_hint="ID")
    return [text_given(name, "ID") for name in names]


def text_given(value: str, hint: str) -> str:
    """Return a value that is text; `typer.BadParameter` for bytes that are none, which the message does not show."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("its bytes are no UTF-8 text; give it in UTF-8", param_hint=hint) from None
    return value


def _lines() -> list[str]:
    """Return what stands on standard input, however its lines end; at a terminal one line is enough."""
    try:
        lines = [sys.stdin.readline()] if sys.stdin.isatty() else list(sys.stdin)
    except UnicodeDecodeError:
        raise typer.BadParameter("standard input is no UTF-8 text", param_hint="ID") from None
    return [line.rstrip("\r\n") for line in lines]

"""One spelling for what is signed: a frozen dataclass as canonical JSON, and back, with strict types.

Two different texts never mean the same: keys are sorted, nothing is spaced, and what does not read back to the very
bytes that were given is refused. Reading never runs anything and never makes more than the text holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final, TypeVar

from privacy.errors import ManifestError

Scalar = str | int | float | bool
Made = TypeVar("Made")

LONGEST_TEXT: Final = 512
"""Longest text in a manifest, in characters."""
_LARGEST_WHOLE: Final = 2**63


def to_canonical(manifest: Any) -> bytes:
    """Return the one spelling of a frozen dataclass of scalars, tuples and mappings of scalars."""
    words = {field.name: getattr(manifest, field.name) for field in fields(manifest)}
    plain = {name: dict(word) if isinstance(word, Mapping) else word for name, word in words.items()}
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def from_canonical(cls: Callable[..., Made], content: bytes, largest: int) -> Made:
    """Read what `to_canonical` wrote; raises `ManifestError` for anything else.

    Args:
        largest: bytes that are read at all.
    """
    name = getattr(cls, "__name__", "manifest")
    if len(content) > largest:
        raise ManifestError(f"a {name} of {len(content)} bytes is too long; at most {largest} are read")
    try:
        words = json.loads(content.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"a {name} cannot be read; take the file that was signed, unchanged") from error
    declared = {field.name: str(field.type) for field in fields(cls)}  # type: ignore[arg-type]
    if not isinstance(words, dict) or words.keys() != declared.keys():
        raise ManifestError(f"a {name} does not hold exactly the words {', '.join(sorted(declared))}")
    made = cls(**{word: _from_json(value, declared[word]) for word, value in words.items()})
    if to_canonical(made) != content:
        raise ManifestError(
            f"a {name} is not in its canonical spelling; take the file that was signed, unchanged"
        )
    return made


def check_types(manifest: Any) -> None:
    """Raise `ManifestError` unless every field is exactly of its declared type, finite and of bounded length."""
    for field in fields(manifest):
        if not _KINDS[str(field.type)](getattr(manifest, field.name)):
            raise ManifestError(
                f"field {field.name} of a {type(manifest).__name__} is no sound {field.type}; see its documentation"
            )


def _is_text(value: object) -> bool:
    return type(value) is str and len(value) <= LONGEST_TEXT


def _is_whole(value: object) -> bool:
    return type(value) is int and abs(value) < _LARGEST_WHOLE


def _is_real(value: object) -> bool:
    return type(value) is float and value - value == 0.0


def _is_scalar(value: object) -> bool:
    return type(value) is bool or _is_text(value) or _is_whole(value) or _is_real(value)


def _is_pair(value: object) -> bool:
    return type(value) is tuple and len(value) == 2 and _is_text(value[0]) and _is_whole(value[1])


_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "str": _is_text,
    "int": _is_whole,
    "float": _is_real,
    "bool": lambda value: type(value) is bool,
    "tuple[str, ...]": lambda value: type(value) is tuple and all(map(_is_text, value)),
    "tuple[tuple[str, int], ...]": lambda value: type(value) is tuple and all(map(_is_pair, value)),
    "Mapping[str, Scalar]": lambda value: (
        isinstance(value, Mapping)
        and all(_is_text(name) and _is_scalar(word) for name, word in value.items())
    ),
}


def _from_json(value: Any, declared: str) -> Any:
    """Turn JSON's lists back into tuples where tuples are declared."""
    if declared.startswith("tuple") and isinstance(value, list):
        return tuple(tuple(entry) if isinstance(entry, list) else entry for entry in value)
    return value

"""Reads `federation.toml` into the typed model; what it does not know, lacks or mistypes is named.


```toml
name = "spring"
domain = "shops.example"                    # of the names in certificates
coordinator = "fedrank.shops.example:9092"  # where merchants reach the coordinator
epsilon = 8.0
delta = 1e-6
rounds = 12
minimum_cohort = 5

[[merchants]]
id = "north"
catalogue = "north.csv"                     # its public items; relative to this file
shoppers = 1200                             # a public number
serving = "rank.north.example:8443"         # optional: a kit for its ranking endpoint
```
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from deploy.errors import FederationFileError
from deploy.federation_model import CALLED, SETTINGS, Address, Federation, KeysMadeBy, Merchant
from privacy.canonical import Scalar
from privacy.plan import Trust


def read_federation(path: Path) -> Federation:
    """Read a federation file; `FederationFileError` names what is wrong with it."""
    try:
        words = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FederationFileError(f"{path} cannot be read as TOML: {error}") from error
    try:
        listed = words.pop("merchants", [])
        if not isinstance(listed, list):
            raise FederationFileError("merchants must be tables [[merchants]]")
        merchants = tuple(_merchant(one, path.parent) for one in listed)
        return Federation(merchants=merchants, **_words(Federation, words, "the federation", {"merchants"}))
    except FederationFileError as error:
        raise FederationFileError(f"{path}: {error}") from error


def _merchant(words: Any, folder: Path) -> Merchant:
    if not isinstance(words, dict):
        raise FederationFileError(f"a merchant is {words!r}; make it a table [[merchants]]")
    read = _words(Merchant, words, f"merchant {words.get('id', '')!r}", set())
    return Merchant(**{**read, "catalogue": folder / read["catalogue"]})


def _words(kind: type[Any], words: Mapping[str, Any], whose: str, apart: set[str]) -> dict[str, Any]:
    """The words of a table as the fields of a class; one too few, too many or of another type is refused."""
    known = {one.name: one for one in fields(kind) if one.name not in apart}
    if unknown := sorted(words.keys() - known.keys()):
        raise FederationFileError(
            f"{whose} has a word {unknown[0]!r}, which means nothing; it may have {', '.join(known)}"
        )
    for name, one in known.items():
        if name not in words and one.default is MISSING and one.default_factory is MISSING:
            raise FederationFileError(f"{whose} lacks {name}; add a line `{name} = ...`")
    return {name: _typed(f"{name} of {whose}", str(known[name].type), value) for name, value in words.items()}


def _typed(what: str, kind: str, value: Any) -> Any:
    """One value of a TOML file as the type that a field declares."""
    if kind == "float" and type(value) is int:
        value = float(value)
    if kind == "Mapping[str, Scalar]":
        return _settings(what, value)
    if kind.startswith("Address"):
        return Address.read(value if isinstance(value, str) else repr(value), what)
    plain: dict[str, type] = {"bool": bool, "int": int, "float": float}
    if type(value) is not plain.get(kind, str):
        raise FederationFileError(f"{what} is {value!r}; it must be {CALLED.get(kind, 'a text')}")
    return value if kind in plain else _made(what, kind, str(value))


def _made(what: str, kind: str, value: str) -> str | Path:
    words = _WORDS.get(kind)
    if words is None:
        return Path(value) if kind == "Path" else value
    try:
        return words(value)
    except ValueError:
        raise FederationFileError(f"{what} is {value!r}; use one of {', '.join(words)}") from None


def _settings(what: str, value: Any) -> dict[str, Scalar]:
    if not isinstance(value, dict):
        raise FederationFileError(f"{what} is {value!r}; make it a table [settings]")
    for name, one in value.items():
        if not isinstance(one, Scalar):
            raise FederationFileError(
                f"{name} of settings is {one!r}; it must be a text, a number, true or false"
            )
    return {name: float(one) if _whole_for_float(name, one) else one for name, one in value.items()}


def _whole_for_float(name: str, one: Scalar) -> bool:
    return type(SETTINGS.get(name)) is float and type(one) is int


_WORDS: Final[dict[str, type[StrEnum]]] = {"Trust": Trust, "KeysMadeBy": KeysMadeBy}

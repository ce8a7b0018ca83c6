"""Each error that fedrank raises on purpose has one documented exit code."""

from __future__ import annotations

import importlib

import pytest

import fedrank.exits as exits
from client.errors import StoreUnavailable
from evaluation.errors import SplitError
from fedrank.exits import FAMILIES, exit_code
from model.errors import ModelError
from privacy.accountant import BudgetError
from privacy.errors import BudgetExceeded
from server.coordination.aggregate import CohortTooSmall
from server.coordination.config import ConfigError
from server.errors import CatalogueError
from simulation.data.errors import DataError
from simulation.errors import FederationFailed, TooFewParticipants
from simulation.population import LostKeys


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (DataError("x"), 3),
        (SplitError("x"), 3),
        (LostKeys("x"), 3),
        (CatalogueError("x"), 3),
        (ModelError("x"), 3),
        (BudgetError("x"), 4),
        (BudgetExceeded("x"), 4),
        (StoreUnavailable("x"), 5),
        (CohortTooSmall("x"), 6),
        (FederationFailed("x"), 6),
        (TooFewParticipants("x"), 6),
        (ValueError("x"), None),
        (KeyError("x"), None),
    ],
)
def test_an_error_has_the_documented_exit_code(error: Exception, code: int | None) -> None:
    """The special family comes before the general one; anything else is a defect and keeps its traceback."""
    assert exit_code(error) == code


@pytest.mark.parametrize(("module", "name", "code"), FAMILIES)
def test_every_named_family_exists_and_its_code_is_documented(module: str, name: str, code: int) -> None:
    """A renamed class would silently turn its errors into tracebacks."""
    family = getattr(importlib.import_module(module), name)
    assert issubclass(family, Exception)
    assert exit_code(family("x")) == code
    assert exits.__doc__ is not None
    assert f"{code} " in exits.__doc__

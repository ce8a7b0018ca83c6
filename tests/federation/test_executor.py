"""How a run that fails is told."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from flwr.app import Context, RecordDict
from flwr.common.constant import SubStatus
from flwr.serverapp import Grid

from privacy.accountant import BudgetError
from privacy.certificate_authority import CertificateAuthority
from server.coordination.aggregate import CohortTooSmall
from server.coordination.executor import Executor
from server.coordination.superlink_files import SuperLinkFiles


@pytest.fixture
def files(tmp_path: Path) -> SuperLinkFiles:
    """What an executor finds beside its SuperLink."""
    made = SuperLinkFiles.make(tmp_path)
    CertificateAuthority.make(made.authority, datetime.now(UTC))
    made.endpoint.write_text(json.dumps({"port": 1}), encoding="ascii")
    return made


def attempted(files: SuperLinkFiles, failure: Exception, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Run an app that fails once."""

    def app(grid: Grid, context: Context) -> None:
        raise failure

    def context(_self: Executor, _grid: Any) -> Context:
        return Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config={})

    monkeypatch.setattr(Executor, "_context", context)
    return Executor(files, app)._attempt(cast(Any, None))


@pytest.mark.parametrize("failure", [CohortTooSmall("0 of at least 2 nodes"), BudgetError("is used up")])
def test_a_run_that_is_given_up_is_one_line_of_the_log(
    files: SuperLinkFiles,
    failure: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its words say what to do; where in the program they were said helps no operator."""
    with caplog.at_level(logging.INFO):
        outcome, details = attempted(files, failure, monkeypatch)
    assert (outcome, details) == (SubStatus.FAILED, f"{type(failure).__name__}: {failure}")
    (record,) = caplog.records
    assert record.getMessage() == f"the run failed: {failure}" and record.exc_info is None


def test_a_failure_that_nobody_meant_keeps_its_traceback(
    files: SuperLinkFiles, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever mends it needs the place."""
    outcome, _details = attempted(files, ZeroDivisionError("x"), monkeypatch)
    assert outcome == SubStatus.FAILED
    assert caplog.records[-1].exc_info is not None

"""What a ledger holds, in plain words for JSON and for the terminal; prices in mu^2 become epsilon at one delta."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from privacy.ledger import Ledger
    from privacy.ledger_records import ChargeRecord, HolderStatement, Quota


def budget_report(
    ledger: Ledger, shown_as: str, delta: float, epsilon: float | None, merchant: str | None
) -> dict[str, Any]:
    """Return each holder's accounts, quota and charges; `epsilon` is what was granted to a shopper, if known."""
    return {
        "ledger": shown_as,
        "delta": delta,
        "granted_epsilon": epsilon,
        "holders": [_holder(statement, delta, epsilon) for statement in ledger.statement(merchant)],
    }


def quota_words(quota: Quota, delta: float) -> dict[str, float]:
    """Return a quota and what is left of it, as mu^2 and as epsilon at `delta`."""
    limit, spent = _epsilon(quota.limit_mu2, delta), _epsilon(quota.spent_mu2, delta)
    return {
        "limit_mu2": quota.limit_mu2,
        "spent_mu2": quota.spent_mu2,
        "left_mu2": quota.left_mu2,
        "epsilon": limit,
        "spent_epsilon": spent,
        "left_epsilon": max(0.0, limit - spent),
    }


def _holder(statement: HolderStatement, delta: float, epsilon: float | None) -> dict[str, Any]:
    spent = _epsilon(statement.highest_mu2, delta)
    return {
        "holder": statement.holder,
        "shoppers": statement.accounts,
        "highest_mu2": statement.highest_mu2,
        "epsilon": spent,
        "remaining_epsilon": None if epsilon is None else max(0.0, epsilon - spent),
        "quota": None if statement.quota is None else quota_words(statement.quota, delta),
        "charges": [_charge(record) for record in statement.charges],
    }


def _epsilon(mu2: float, delta: float) -> float:
    from privacy.accountant import epsilon_of

    return epsilon_of(math.sqrt(mu2), delta)


def _charge(record: ChargeRecord) -> dict[str, Any]:
    charge = record.charge
    return {
        "release_id": charge.release_id,
        "stage": charge.stage,
        "round": charge.round,
        "noise_multiplier": charge.noise_multiplier,
        "clipping_norm": charge.clipping_norm,
        "mu2": charge.mu2,
        "shoppers": record.subjects,
        "state": str(record.state),
        "reserved_at": record.reserved_at,
        "committed_at": record.committed_at,
    }

"""Exit codes of `fedrank`, and which error of which room means which.

0 done; 1 unexpected failure; 2 wrong usage; 3 the data or the run folder cannot be used; 4 the privacy budget
or the ledger refuses, or keys would be destroyed that other data need; 5 the ranking endpoint or a store cannot be
reached; 6 the federation gave up; 130 interrupted. Error texts go to standard error and never hold an event, an
embedding, a key or a shopper's id.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from fedrank.printable import printable

UNEXPECTED, USAGE, DATA, BUDGET, UNREACHABLE, FEDERATION, INTERRUPTED = 1, 2, 3, 4, 5, 6, 130

FAMILIES: tuple[tuple[str, str, int], ...] = (
    ("simulation.data.errors", "DataError", DATA),
    ("evaluation.errors", "SettingsError", USAGE),
    ("evaluation.errors", "EvaluationError", DATA),
    ("server.coordination.aggregate", "CohortTooSmall", FEDERATION),
    ("fedrank.federation.running", "RunFailed", FEDERATION),
    ("fedrank.federation.running", "RunGoing", FEDERATION),
    ("simulation.errors", "FederationFailed", FEDERATION),
    ("simulation.errors", "TooFewParticipants", FEDERATION),
    ("simulation.staging", "LedgerInUse", BUDGET),
    ("simulation.errors", "SimulationError", DATA),
    ("server.coordination.config", "ConfigError", USAGE),
    ("server.coordination.schedule", "ScheduleError", USAGE),
    ("server.coordination.superlink_files", "SuperLinkError", UNREACHABLE),
    ("server.errors", "PolicyError", USAGE),
    ("server.errors", "ServerError", DATA),
    ("model.errors", "EncoderError", USAGE),
    ("model.errors", "ModelError", DATA),
    ("client.ranking_errors", "RequestRefused", USAGE),
    ("client.ranking_errors", "InvalidQuestion", USAGE),
    ("client.ranking_errors", "InvalidEvent", USAGE),
    ("client.ranking_errors", "InvalidConnection", USAGE),
    ("client.receipts", "InvalidReceipt", DATA),
    ("client.consent", "InvalidConsent", USAGE),
    ("client.errors", "NotTheLiveStore", BUDGET),
    ("client.errors", "ClientError", UNREACHABLE),
    ("privacy.errors", "DatabaseError", UNREACHABLE),
    ("privacy.errors", "KmsUnavailable", UNREACHABLE),
    ("privacy.errors", "KeyringError", DATA),
    ("privacy.errors", "CertificateError", DATA),
    ("privacy.errors", "DecryptionError", DATA),
    ("deploy.errors", "FederationFileError", USAGE),
    ("deploy.errors", "KitExists", USAGE),
    ("deploy.errors", "DeployError", DATA),
    ("privacy.pseudonyms", "NotAnId", USAGE),
    ("privacy.errors", "PrivacyError", BUDGET),
)
"""(module, class, exit code), the special before the general."""


def exit_code(error: Exception) -> int | None:
    """Return the exit code of an error that fedrank raises on purpose, or None for any other.

    Only modules that are loaded already are looked at: an error of a room that never ran cannot occur.
    """
    for module, name, code in FAMILIES:
        family = getattr(sys.modules.get(module), name, None)
        if family is not None and isinstance(error, family):
            return code
    return None


def reporting(command: Callable[[], None]) -> None:
    """Run a command; an error that fedrank raises on purpose becomes one line and its exit code."""
    try:
        command()
    except KeyboardInterrupt:
        print("fedrank: interrupted; what the ledger has reserved stays spent", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        print(f"fedrank: {printable(str(error))}", file=sys.stderr)
        sys.exit(code)

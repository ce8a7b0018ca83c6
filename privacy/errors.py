"""The family of errors of this room: each names the thing, the value, the bound and the next step.

No message ever holds a shopper's id, an event, plaintext or a key.
"""


class PrivacyError(Exception):
    """Base of every error of the privacy room."""


class DecryptionError(PrivacyError):
    """A ciphertext was damaged, moved to another place, or belongs to another key."""


class KeyringError(PrivacyError):
    """The keyring is missing, damaged, or readable by others than its owner."""


class DatabaseError(PrivacyError):
    """A database URL is wrong, or the database cannot do what it was asked."""


class NewerSchema(DatabaseError):
    """The database was written by a newer version of fedrank than this one."""


class OlderSchema(DatabaseError):
    """The database's tables are those of an older revision and have to be migrated first."""


class UnknownSchema(DatabaseError):
    """The database has tables of our names that no known revision made."""


class WouldLoseRows(DatabaseError):
    """A migration to an older revision would delete rows, and nobody allowed it."""


class NotABackup(DatabaseError):
    """A file that should be a backup was not written as one."""


class NotEmpty(DatabaseError):
    """A backup should be restored into a database that has rows already."""


class DatabaseDamaged(DatabaseError):
    """The database's own structure is broken: bytes were lost or changed underneath it."""


class StorageFull(DatabaseError):
    """There is no space left for what should be stored; nothing of it was kept, and reading goes on."""


class DatabaseMissing(DatabaseError):
    """The database that should already exist does not."""


class LedgerError(PrivacyError):
    """The ledger was asked for something that it must refuse."""


class InvalidCharge(LedgerError):
    """A charge or a cap holds a value that no release can have (negative, not finite, empty name)."""


class BudgetExceeded(LedgerError):
    """At least one shopper of the cohort would spend more than the cap; nobody was charged."""


class LedgerConflict(LedgerError):
    """A release that is already in the ledger was presented again with other parameters or shoppers."""


class UnknownCharge(LedgerError):
    """A release was committed that had never been reserved."""


class AnonymityError(PrivacyError):
    """Figures about shoppers may not leave in the clear as they are."""


class TooFewShoppers(AnonymityError):
    """Figures are about fewer shoppers than may leave in the clear, or about one of them above all."""


class TooFine(AnonymityError):
    """A time, a place or a window of time is finer than what may leave in the clear."""


class WindowOverlaps(AnonymityError):
    """A series was already published for some days of the window."""


class NotNoised(AnonymityError):
    """Figures name a release that the ledger does not hold as committed with noise."""


class QuotaExceeded(LedgerError):
    """A merchant's releases would together pass the quota that was set for it; nobody was charged."""


class LedgerRolledBack(LedgerError):
    """The ledger is older than the keyring remembers it, or is gone: it would give back spent budget."""


class ForeignLedger(LedgerError):
    """The ledger and the keyring do not belong together."""


class LedgerDamaged(LedgerError):
    """A charge of the ledger was changed or removed; the message names its position."""


class WrongPassphrase(KeyringError):
    """The key-encryption key does not open with the passphrase or key file that was given."""


class KmsUnavailable(KeyringError):
    """What holds the key-encryption key cannot be reached: a token, its module, its PIN, or a key file elsewhere."""


class UnknownKeyVersion(DecryptionError):
    """A wrapped key names a version of its wrapping key that is not known here (any more, or yet)."""


class DamagedDataKeys(KeyringError):
    """The newest data key of a shopper does not open; the message names its row."""


class RotationRunning(KeyringError):
    """Another process is rotating, protecting or copying the keys of this keyring."""


class CertificateError(PrivacyError):
    """A certificate, its key or a revocation list cannot be read, made or trusted."""


class ManifestError(PrivacyError):
    """A manifest cannot be read, is not signed by whom it must be, or asks for less protection than was agreed."""


class SecureAggregationError(PrivacyError):
    """A round of secure aggregation must not go on: what was received is forged, unfit, or would reveal an input."""


class OutOfTurn(SecureAggregationError):
    """A message came twice, too late or too early; nothing has changed by it."""


class CohortLost(SecureAggregationError):
    """Too few participants are left for a sum; the round releases nothing."""


class SignatureError(CertificateError):
    """A model version is not signed, not by a known signer, or not as it is."""

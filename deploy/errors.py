"""The family of errors of this room: each names the thing, the value, the bound and the next step."""


class DeployError(Exception):
    """Base of every error of the deploy room."""


class FederationFileError(DeployError, ValueError):
    """The description of a federation lacks a word, or has one that no federation can have."""


class PublicCatalogueError(DeployError, ValueError):
    """A merchant's public items cannot be read, lack a column, or name an item twice."""


class KitError(DeployError):
    """A folder is no kit, or its files do not fit together."""


class KitIncomplete(KitError):
    """A file is not there yet; `step` says how it comes there."""

    def __init__(self, found: str, step: str) -> None:
        """Say what is missing, and what to do."""
        super().__init__(f"{found}; {step}")
        self.found, self.step = found, step


class KitExists(DeployError):
    """A folder that would be written is there already."""


class MembershipError(DeployError):
    """A merchant cannot be invited, approved, revoked or given new keys as it was asked."""

"""Who is in a federation: invite a merchant, approve its key, revoke it, give it a new one. Done by the operator.

Every change is made in the folder of all kits, and each function returns the folders and files that have to be
carried to somebody. All of them need the authority's key, which nobody but the operator has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Self

from deploy.catalogue import join_items, read_items
from deploy.errors import KitError, MembershipError
from deploy.federation_file import read_federation
from deploy.federation_model import Federation, KeysMadeBy, Merchant
from deploy.kit import COORDINATOR, MEMBERS
from deploy.kit_files import Kits, write_public
from deploy.provisioning import add_merchant, renew_coordinator, renew_node, wanted_node, write_member
from deploy.shared_files import CATALOGUES, MODEL, write_revoked, write_shared
from privacy.certificate_authority import REVOKED, CertificateAuthority
from privacy.certificates import certificates_in, read_certificate
from privacy.errors import CertificateError
from privacy.member_certificates import FORMER

COORDINATOR_ID = "coordinator"


@dataclass(frozen=True, kw_only=True)
class Operator:
    """The operator's view of one federation: all kits, the model they are made from, and the authority."""

    kits: Kits
    federation: Federation
    authority: CertificateAuthority

    @classmethod
    def open(cls, root: Path) -> Self:
        """Open the folder of all kits; raises `KitError` or `CertificateError` where it is not one."""
        kits = Kits(root=root)
        if not (kits.authority / MODEL).is_file():
            raise KitError(
                f"{root} holds no authority/{MODEL}; name the folder that `fedrank provision` wrote"
            )
        return cls(
            kits=kits,
            federation=read_federation(kits.authority / MODEL),
            authority=CertificateAuthority.open(kits.authority),
        )

    def invite(self, merchant: Merchant, now: datetime) -> list[Path]:
        """Add a merchant: a kit for it, and terms and public items of all kits anew.

        Raises `FederationFileError` for an id that is taken, `PublicCatalogueError` for items that do not fit.
        """
        grown = replace(self.federation, merchants=(*self.federation.merchants, merchant))
        items = read_items(merchant.catalogue, merchant.id)
        folder = self.kits.authority / CATALOGUES
        join_items(
            [items, *(read_items(folder / f"{one.id}.parquet", one.id) for one in self.federation.merchants)]
        )
        add_merchant(self.kits, grown, merchant, items, self.authority, now)
        write_shared(self.kits, grown, self.authority)
        return self.kits.all()

    def approve(self, name: str, request: bytes, now: datetime) -> list[Path]:
        """Sign a merchant's request; a certificate that it had before is revoked. Its kit is left as it is.

        Raises `CertificateError` where the request names somebody else or is not signed by its own key.
        """
        merchant = self.federation.merchant(name)
        certificate = self.authority.approve(request, wanted_node(self.federation, merchant), now)
        self._retire(name, now)
        write_member(self.kits, merchant, certificate)
        return [self.kits.authority / MEMBERS / f"{name}.pem", *self._for_coordinator()]

    def revoke(self, name: str, now: datetime) -> list[Path]:
        """Revoke a merchant's certificate, or all that the coordinator has had, which gets a new one at once.

        Raises `MembershipError` for a merchant that has none.
        """
        if name == COORDINATOR_ID:
            for certificate in certificates_in((self.kits.coordinator / COORDINATOR).read_bytes()):
                self.authority.revoke(certificate, now)
            return self._renew_coordinator(now, former=b"")
        if not self._retire(self.federation.merchant(name).id, now):
            raise MembershipError(
                f"merchant {name!r} has no certificate that could be revoked; it is out already"
            )
        return self._for_coordinator() + [
            kit / REVOKED for kit in self.kits.all() if kit != self.kits.coordinator
        ]

    def rotate(self, name: str, now: datetime) -> list[Path]:
        """Give a merchant's node, or the coordinator, a new key. A merchant's old certificate is revoked.

        The coordinator's stays good until it ends: versions that it has signed go on being served.
        Raises `MembershipError` for a merchant that makes its keys itself.
        """
        if name == COORDINATOR_ID:
            return self._renew_coordinator(now, (self.kits.coordinator / COORDINATOR).read_bytes())
        merchant = self.federation.merchant(name)
        if merchant.keys is KeysMadeBy.SITE:
            raise MembershipError(
                f"merchant {name!r} makes its keys at its own site; let it run `fedrank merchant request KIT` there, "
                f"and sign what it sends with `fedrank merchant approve {name} --csr FILE`"
            )
        self._retire(name, now)
        renew_node(self.kits, self.federation, merchant, self.authority, now)
        return [self.kits.merchant(name), *self._for_coordinator()]

    def _renew_coordinator(self, now: datetime, former: bytes) -> list[Path]:
        renew_coordinator(self.kits, self.federation, self.authority, now, former)
        write_shared(self.kits, self.federation, self.authority)
        return self.kits.all()

    def _retire(self, name: str, now: datetime) -> bool:
        """Revoke the certificate that a merchant has, if any, and take it from the members."""
        current = self.kits.authority / MEMBERS / f"{name}.pem"
        if not current.is_file():
            return False
        retired = current.read_bytes()
        self.authority.revoke(retired, now)
        write_revoked(self.kits)
        for folder in (self.kits.coordinator, self.kits.authority):
            _keep_former(folder / MEMBERS, retired, now)
            (folder / MEMBERS / current.name).unlink(missing_ok=True)
        return True

    def _for_coordinator(self) -> list[Path]:
        return [self.kits.coordinator / REVOKED, self.kits.coordinator / MEMBERS]


def _keep_former(members: Path, retired: bytes, now: datetime) -> None:
    """Add a certificate to those that were given up, without those that would have ended by now."""
    path = members / f"{FORMER}.pem"
    kept = [pem for pem in (*_former_at(path), retired) if read_certificate(pem).ends > now.timestamp()]
    write_public(path, b"".join(kept))


def _former_at(path: Path) -> list[bytes]:
    """Return the certificates of the list; one that is empty or damaged lets nobody in, and must keep nobody in."""
    try:
        return certificates_in(path.read_bytes())
    except (FileNotFoundError, CertificateError):
        return []

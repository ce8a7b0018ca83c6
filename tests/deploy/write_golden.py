"""Writes the golden texts anew: python tests/deploy/write_golden.py, and then read the difference."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from federations import provisioned

GOLDEN = Path(__file__).parent / "golden"
NAMES = (
    "coordinator/compose.yaml",
    "coordinator/kit.toml",
    "merchants/north/README.md",
    "merchants/north/systemd/fedrank-merchant-north.service",
    "merchants/north/helm/values.yaml",
    "merchants/north/helm/templates/deployment.yaml",
    "merchants/north/helm/templates/network.yaml",
    "serving/north/compose.yaml",
    "serving/north/kit.toml",
    "authority/federation.toml",
)


def main() -> None:
    """Provision the small federation of the tests and copy what is golden."""
    shutil.rmtree(GOLDEN, ignore_errors=True)
    with TemporaryDirectory() as folder:
        kits = provisioned(Path(folder)).root
        for name in NAMES:
            place = GOLDEN / name
            place.parent.mkdir(parents=True, exist_ok=True)
            text = (kits / name).read_text(encoding="utf-8").replace(version("fedrank"), "VERSION")
            place.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

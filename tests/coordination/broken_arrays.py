"""Bytes of arrays that NumPy's reader stumbles over, each in its own way."""

from __future__ import annotations

import io

import numpy as np


def _headed(header: str) -> bytes:
    """An array in NumPy's format that has nothing but a header."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


def _archive() -> bytes:
    content = io.BytesIO()
    np.savez(content, array=np.zeros(4))
    return content.getvalue()


def _shaped(entries: int) -> bytes:
    return _headed(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({entries},), }}\n")


UNREADABLE = (
    b"\x93NUMPY\x01\x00",
    b"PK\x03\x04junk",
    _archive(),
    _headed("{'descr': ("),
    _headed("-" * 9000 + "1"),
    _shaped(10**17),
    _shaped(10**40),
)
"""Cut off; no archive; an archive; a header without an end, a deep one; more than any memory, and than any number."""

"""An item as protobuf encodes it inside an answer: the fields of a `RankedItem` that are the same in every answer."""

from __future__ import annotations

ITEM_ID, MERCHANT_ID, TITLE = b"\x12", b"\x1a", b"\x22"
"""Protobuf tags of the fields 2, 3 and 4 of a `RankedItem`, each length-delimited."""


def encoded_item(item_id: str, merchant_id: str, title: str) -> bytes:
    """The fields `item_id`, `merchant_id` and `title`; as protobuf has it, an empty one is left out."""
    texts = ((ITEM_ID, item_id), (MERCHANT_ID, merchant_id), (TITLE, title))
    return b"".join(field(tag, text.encode()) for tag, text in texts if text)


def field(tag: bytes, content: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return tag + varint(len(content)) + content


def varint(number: int) -> bytes:
    """A number in protobuf's base-128 form."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def text_of(encoded: bytes, wanted: bytes) -> str:
    """The text of one field of an encoded item; empty where it is left out."""
    at = 0
    while at < len(encoded):
        tag, size, shift, at = encoded[at : at + 1], encoded[at + 1] & 0x7F, 7, at + 2
        while encoded[at - 1] & 0x80:
            size |= (encoded[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
        if tag == wanted:
            return encoded[at : at + size].decode()
        at += size
    return ""

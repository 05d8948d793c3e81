"""Messages signed by the rules of Standard Webhooks, as they come in: as the published verifier does it, told the time.

Signed is `id.timestamp.body`, byte for byte as it came; the header holds one or more signatures `v1,<base64>`, parted
by blanks. The age is limited both ways, so that an old message cannot be sent again by somebody else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

TOLERANCE_SECONDS = 300
MAX_ID = 200
MAX_SIGNATURES = 16
"""More in one header is no rotation."""

_ID = re.compile(rf"[\x21-\x7e]{{1,{MAX_ID}}}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


class NotSigned(Exception):
    """The message is not from whom it says it is. The text is for the log; a sender is told no more than that."""


def keys(text: str) -> list[bytes]:
    """The keys of secrets `whsec_…`, one a line, at most two (while one takes over from the other).

    Raises ValueError without repeating a secret.
    """
    written = text.split()
    if not 1 <= len(written) <= 2:
        raise ValueError("there must be one secret, or two while you change it")
    return [_key(one) for one in written]


def _key(written: str) -> bytes:
    bare = written.removeprefix("whsec_").rstrip("=")
    try:
        key = base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a secret is no base64; `dialmark webhooks secret` makes one") from None
    if not written.startswith("whsec_") or not 24 <= len(key) <= 64:
        raise ValueError("a secret is whsec_ and 24 to 64 bytes as base64")
    return key


def verified(headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes], now_seconds: float) -> str:
    """The id of a message that is signed with one of the secrets. Raises NotSigned."""
    names = {name.lower(): value for name, value in headers.items()}
    message_id, stamp = names.get("webhook-id", ""), names.get("webhook-timestamp", "")
    if not (message_id and stamp and names.get("webhook-signature")):
        raise NotSigned("webhook-id, webhook-timestamp or webhook-signature is missing")
    if not _ID.fullmatch(message_id) or not _TIMESTAMP.fullmatch(stamp):
        raise NotSigned("webhook-id or webhook-timestamp is malformed")
    age = now_seconds - int(stamp)
    if abs(age) > TOLERANCE_SECONDS:
        raise NotSigned(f"its timestamp is {abs(age):.0f} s {'old' if age > 0 else 'ahead'}: is a clock wrong?")
    signed = f"{message_id}.{stamp}.".encode() + body
    given = _signatures(names["webhook-signature"])
    for secret in secrets:
        expected = hmac.digest(secret, signed, hashlib.sha256)
        if any(hmac.compare_digest(expected, one) for one in given):
            return message_id
    raise NotSigned("no signature fits")


def _signatures(header: str) -> list[bytes]:
    found: list[bytes] = []
    for part in header.split(" ")[:MAX_SIGNATURES]:
        version, _, text = part.partition(",")
        if version != "v1":
            continue
        try:
            found.append(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError):
            continue
    return found

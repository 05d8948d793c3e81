"""What a page is told of its visit and leases, and says again with each sign of life: the wire's `lease`.

It is made of the very ids, so that any process can read it after any restart: the visit and at most two leases, 16
bytes each. The leases of a page with more numbers do not fit into the 64 characters: then it has a digest of them, and
whoever reads it looks the visitor's leases up (`is_of`). Ids cannot be guessed, so a token that names one has seen it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

_ID = 16
_MOST_LEASES = 2
_DIGEST_MARK = b"+"


@dataclass(frozen=True, slots=True)
class Token:
    """A page's visit and leases. `digest` stands for the leases when they are too many to be named."""

    visit_id: str
    lease_ids: tuple[str, ...] = ()
    digest: bytes | None = None

    def is_of(self, lease_ids: Collection[str]) -> bool:
        """Whether these are the leases that the digest stands for."""
        return self.digest == _digest(lease_ids)


def write(visit_id: str, lease_ids: Collection[str] = ()) -> str:
    """The token of a page; ids are UUIDs. The order of leases makes no difference."""
    parts = [UUID(visit_id).bytes]
    if len(lease_ids) <= _MOST_LEASES:
        parts += [UUID(one).bytes for one in sorted(lease_ids)]
    else:
        parts += [_digest(lease_ids), _DIGEST_MARK]
    return base64.urlsafe_b64encode(b"".join(parts)).decode().rstrip("=")


def read(text: str) -> Token | None:
    """What a token names; None for what is none of ours."""
    try:
        known = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    whole, rest = divmod(len(known), _ID)
    ids = [str(UUID(bytes=known[place * _ID : place * _ID + _ID])) for place in range(whole)]
    if rest == 0 and 1 <= whole <= 1 + _MOST_LEASES:
        return Token(ids[0], tuple(ids[1:]))
    if known[2 * _ID :] == _DIGEST_MARK:
        return Token(ids[0], digest=known[_ID : 2 * _ID])
    return None


def _digest(lease_ids: Collection[str]) -> bytes:
    return hashlib.sha256(" ".join(sorted(lease_ids)).encode()).digest()[:_ID]

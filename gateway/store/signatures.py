"""Ed25519 signatures of consent receipts (N3): the node's key, signing, checking, and the exported form.

An exported receipt carries its public key, so that anybody can check it; whether that key is this node's is told by its
id, which `dialmark` prints. The private key lies in a file of mode 0600 and never in the database.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.core import receipts

ALGORITHM = "Ed25519"
MAX_EXPORT_CHARACTERS = 1_000_000
_KEY_BYTES = 32


class BadSignature(ValueError):
    """The receipt is not what was signed, or not signed by that key; the message says which."""


class BadKey(ValueError):
    """The key file cannot be used; the message says why, and never holds the key."""


@dataclass(frozen=True, slots=True)
class Signature:
    """`key_id`: SHA-256 of the public key, first 16 hex digits. `value` and `public_key` are base64."""

    key_id: str
    public_key: str
    value: str
    algorithm: str = ALGORITHM


class Signer:
    """Signs with one private key; making one costs nothing, signing 0.1 ms."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        public = private.public_key().public_bytes_raw()
        self.public_key = base64.b64encode(public).decode()
        self.key_id = key_id(public)

    @classmethod
    def load(cls, path: Path) -> Signer:
        """From `path`, made there (mode 0600) when it does not exist yet. Raises `BadKey` and OSError."""
        if not path.exists():
            _make(path)
        if path.stat().st_mode & 0o077:
            raise BadKey(f"{path} may be read by others: chmod 600 it")
        try:
            raw = base64.b64decode(path.read_text("ascii").strip(), validate=True)
        except (binascii.Error, UnicodeDecodeError):
            raise BadKey(f"{path} holds no key") from None
        if len(raw) != _KEY_BYTES:
            raise BadKey(f"{path} holds no Ed25519 key")
        return cls(Ed25519PrivateKey.from_private_bytes(raw))

    def sign(self, document: Mapping[str, Any]) -> Signature:
        """The signature of a receipt. Raises ValueError for a document without canonical form."""
        value = self._private.sign(receipts.canonical(document))
        return Signature(self.key_id, self.public_key, base64.b64encode(value).decode())


def key_id(public: bytes) -> str:
    """Short name of a public key."""
    return hashlib.sha256(public).hexdigest()[:16]


def verify(document: Mapping[str, Any], signature: Signature, trusted: frozenset[str] | None = None) -> None:
    """Raises `BadSignature` unless `document` is what `signature` was made for; `trusted` are the ids of keys that
    count, None takes the one the signature brings."""
    if signature.algorithm != ALGORITHM:
        raise BadSignature(f"algorithm {signature.algorithm[:40]} is not known")
    try:
        public = base64.b64decode(signature.public_key, validate=True)
        value = base64.b64decode(signature.value, validate=True)
        key = Ed25519PublicKey.from_public_bytes(public)
    except (binascii.Error, ValueError):
        raise BadSignature("key or signature is no base64 of the right length") from None
    if key_id(public) != signature.key_id:
        raise BadSignature("the key's id is not that of the key")
    if trusted is not None and signature.key_id not in trusted:
        raise BadSignature(f"signed by key {signature.key_id}, which is not one of ours")
    try:
        key.verify(value, receipts.canonical(document))
    except (InvalidSignature, ValueError):
        raise BadSignature("the receipt was changed after it was signed") from None


def export(document: Mapping[str, Any], signature: Signature) -> str:
    """Receipt and signature as one JSON text, for a file."""
    both = {
        "receipt": document,
        "signature": {
            "algorithm": signature.algorithm,
            "key_id": signature.key_id,
            "public_key": signature.public_key,
            "value": signature.value,
        },
    }
    return json.dumps(both, ensure_ascii=False, indent=1) + "\n"


def read_export(text: str) -> tuple[dict[str, Any], Signature]:
    """What `export` wrote. Raises `BadSignature` for a text that is no exported receipt."""
    try:
        if len(text) > MAX_EXPORT_CHARACTERS:
            raise ValueError
        both = json.loads(text)
        document, said = both["receipt"], both["signature"]
        names = ("key_id", "public_key", "value", "algorithm")
        if not isinstance(document, dict) or not all(isinstance(said[name], str) for name in names):
            raise TypeError
        return document, Signature(**{name: said[name] for name in names})
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadSignature("this is no exported receipt") from None


def _make(path: Path) -> None:
    """A new key by temp file and link, so that two processes starting together use one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode() + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink(missing_ok=True)

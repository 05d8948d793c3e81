"""What commands on recordings need: the key ring, the folders, and who is asking."""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING

from gateway.cli import context, failures

if TYPE_CHECKING:
    from collections.abc import Collection

    from gateway import store
    from gateway.config.settings import Settings
    from gateway.services import erasing, retention
    from gateway.store import keyring, signatures


def ring(settings: Settings) -> keyring.KeyRing | None:
    """The key ring of the settings, None when there is none. Raises Failure for one that cannot be read."""
    from gateway.config import settings as reading
    from gateway.store import keyring

    try:
        text = settings.vault.text()
        return keyring.parse(text) if text.strip() else None
    except reading.SettingsErrors as error:
        raise failures.Failure(str(error)) from None
    except keyring.KeyRingError as error:
        raise failures.Failure(f"the key ring is not readable: {error}") from None


def needed_ring(settings: Settings) -> keyring.KeyRing:
    """The key ring. Raises Failure when there is none."""
    found = ring(settings)
    if found is None:
        raise failures.Failure(
            "there is no key ring: put the line that `dialmark recordings new-key NAME` prints into a file, and name "
            "it in `vault.keys_file`"
        )
    return found


def signer(settings: Settings) -> signatures.Signer | None:
    """The node's signing key, None where the daemon has made none. Raises Failure for one that cannot be used."""
    from gateway.store import signatures

    path = settings.recording.signing_key_file
    try:
        return signatures.Signer.load(path) if path.exists() else None
    except signatures.BadKey as error:
        raise failures.Failure(f"no receipt can be signed: {error}") from None
    except OSError as error:
        raise failures.Failure(f"no receipt can be signed: {path}: {error.strerror}") from None


def actor() -> str:
    """Who is at the terminal, for the audit: the account, and behind sudo the one that called it."""
    try:
        account = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        account = str(os.getuid())
    return f"cli:{account}"


async def targets(database: store.Database, settings: Settings) -> Collection[str]:
    """Who is told of what this command does. Raises StoreUnavailable."""
    from gateway.daemon import outgoing

    told = outgoing.Outgoing(settings)
    if (in_force := await context.book_in_force(database, settings)) is not None:
        told.use(in_force)
    return told.subscriptions


def policy(settings: Settings) -> retention.Policy:
    """The rules of the settings."""
    from gateway.core import retention as rules
    from gateway.services import retention

    chosen = settings.retention
    return retention.Policy(
        rules.rules(chosen.recordings_days, chosen.rules),
        grace_days=chosen.grace_days,
        refused_days=chosen.refused_days,
        calls_months=chosen.calls_months,
        visits_months=chosen.visits_months,
        audit_months=chosen.audit_months,
        archive_days=settings.journal.archive_days,
    )


def retention_places(settings: Settings) -> retention.Places:
    """Folders that retention empties."""
    from gateway.services import retention

    return retention.Places(settings.vault.dir, settings.asterisk.journal_dir / "archive")


def erasing_places(settings: Settings) -> erasing.Places:
    """Where a person may stand besides the database."""
    from gateway.services import erasing

    exports = (settings.events.jsonl_path,) if settings.events.jsonl_path is not None else ()
    return erasing.Places(
        settings.vault.dir,
        settings.recording.spool_dir,
        settings.asterisk.journal_dir,
        settings.asterisk.journal_name,
        settings.asterisk.journal_dir / "archive",
        exports,
    )

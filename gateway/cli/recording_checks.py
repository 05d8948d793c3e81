"""Checks of what recordings need: keys, spool, vault, speech, prompts, music. Without them calls go on, unrecorded.

What nobody asked for is no fault: while the routing records nothing, only what is stored already is looked at.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli import host_checks, installation, recording_setup
from gateway.cli.findings import Finding, State, fail, ok, warn

if TYPE_CHECKING:
    from gateway import store
    from gateway.config.settings import Settings
    from gateway.core import book, prompts
    from gateway.store import keyring

MAKES_IT = "`dialmark init --write` makes it"
NAMED = 3
"""Missing prompts that are named; the others are counted."""


async def keys(settings: Settings, database: store.Database, *, is_wanted: bool) -> list[Finding]:
    """Whether there is a ring, closed to others, that opens every stored recording."""
    from gateway.cli import failures, vaults
    from gateway.store import recordings

    check = "key ring"
    try:
        ring = vaults.ring(settings)
    except failures.Failure as error:
        return [fail(check, str(error), "put your copy of the ring back, readable by the daemon's user alone")]
    async with database.read() as connection:
        usage = await recordings.key_usage(connection)
        problems = await recordings.ring_problems(connection, ring)
    if ring is None and recording_setup.is_credential():
        return [
            warn(
                check,
                "is a systemd credential, which only the daemon sees",
                "`dialmark health` tells whether it opens everything; commands need the ring in DIALMARK_VAULT__KEYS",
            )
        ]
    if problems:
        advice = "put the missing keys back from your copy: without them these recordings can never be opened"
        return [fail(check, one, advice) for one in problems.values()]
    if ring is None:
        return [_no_ring(check)] if is_wanted else []
    return list(_ring(settings, ring, sum(usage.values())))


def _no_ring(check: str) -> Finding:
    return fail(
        check,
        "the routing asks for recording, and there is no key ring: nothing is recorded",
        f"{MAKES_IT}; then name it in vault.keys_file and restart the daemon",
    )


def _ring(settings: Settings, ring: keyring.KeyRing, used: int) -> Iterator[Finding]:
    file = settings.vault.keys_file
    if file is not None and not settings.vault.keys.get_secret_value():
        closed = host_checks.secret_file("key ring", file)
        if closed.state is not State.OK:
            yield closed
            return
    yield ok("key ring", f"{len(ring.ids)} keys, '{ring.current}' is current; they open all of {used} stored")


def places(settings: Settings, *, is_wanted: bool) -> Iterator[Finding]:
    """Spool and vault: there, open to whom they must be, with room, and the spool away from the journal."""
    spool, vault = settings.recording.spool_dir, settings.vault.dir
    if not is_wanted and not (_holds(spool) or _holds(vault)):
        return
    yield shared_folder(
        "spool",
        spool,
        _owner(settings.asterisk.journal_dir),
        "Asterisk writes sound into it, and the daemon takes it away",
    )
    if spool.is_dir():
        yield room(spool, _free_percent(spool), settings.recording.min_free_percent)
        yield host_checks.separate_filesystems(settings.asterisk.journal_dir, spool)
    yield _vault(vault)
    yield host_checks.disk("disk of the vault", vault)


def shared_folder(check: str, folder: Path, other: int | None, use: str) -> Finding:
    """A folder that we and the user `other` (an id) both write into, by a group, and nobody else looks into."""
    try:
        status = folder.stat()
    except OSError as error:
        return fail(check, f"{folder}: {error.strerror}", f"{MAKES_IT}: {use}")
    mode = stat.S_IMODE(status.st_mode)
    mend = f"chown asterisk:asterisk {folder}; chmod 2770 {folder}"
    if mode & 0o007:
        return fail(check, f"{folder} has mode {mode:04o}: others may listen to sound in plain", mend)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return fail(
            check,
            f"{folder} is not writable by this user",
            f"run doctor as the daemon's user, which must be in Asterisk's group; if it still fails: {mend}",
        )
    if (
        other is not None
        and other not in (0, status.st_uid)
        and not (mode & 0o020 and _is_member(other, status.st_gid))
    ):
        return fail(check, f"{folder} is not writable by Asterisk ({_name(other)})", mend)
    if not mode & stat.S_ISGID:
        return fail(check, f"{folder} has mode {mode:04o}: without setgid new files get the writer's own group", mend)
    return ok(check, f"{folder} ({mode:04o}), writable for Asterisk and Dialmark")


def _free_percent(folder: Path) -> float:
    space = os.statvfs(folder)
    return 100 * space.f_bavail / space.f_blocks if space.f_blocks else 0.0


def room(spool: Path, free: float, least: int) -> Finding:
    """Whether new calls are recorded: `free` per cent are there, `least` are needed."""
    text = f"{spool}: {free:.0f} % free, new calls are recorded from {least} %"
    if free < least:
        return fail("room of the spool", text, "free space or mount a larger filesystem; calls go on unrecorded")
    if free < max(2.0 * least, 20.0):
        return warn("room of the spool", text, "free space, or mount a larger filesystem there")
    return ok("room of the spool", text)


def _vault(folder: Path) -> Finding:
    if not folder.exists() and os.access(folder.parent, os.W_OK | os.X_OK):
        return warn(
            "vault", f"{folder} is not there yet", f"the daemon makes it with the first recording; {MAKES_IT} too"
        )
    found = host_checks.writable_folder("vault", folder, "encrypted recordings")
    if found.state is State.OK and (mode := stat.S_IMODE(folder.stat().st_mode)) & 0o007:
        return warn("vault", f"{folder} has mode {mode:04o}", f"chmod 0700 {folder}: nobody else needs to look in")
    return found


def signing_key(settings: Settings) -> Finding:
    """The key that signs consent receipts, readable by us alone."""
    from gateway.store import signatures

    check, path = "signing key", settings.recording.signing_key_file
    if not path.exists():
        return warn(check, f"{path} is not there yet", "the daemon makes it at its start; then keep a copy of it")
    try:
        return ok(check, f"{path}, id {signatures.Signer.load(path).key_id}")
    except PermissionError:
        return fail(check, f"{path} is not readable by this user", f"run doctor as the daemon's user, or chown {path}")
    except (signatures.BadKey, OSError) as error:
        return fail(check, str(error), "receipts are not signed without it: put your copy back, mode 0600")


def speech(settings: Settings, routing: book.Book) -> Iterator[Finding]:
    """A program that speaks, where prompts are wanted, and the audio of each of them."""
    from gateway.core import handling
    from gateway.pbx import speech

    wanted = [group[0] for group in handling.demands(routing, settings.callbacks.rules())]
    if not wanted:
        return
    engine = speech.find(settings.prompts.engine, settings.prompts.command, settings.prompts.voice_by_language())
    spoken = sorted({one.language for one in wanted})
    if engine is None:
        yield warn(
            "speech",
            "no program speaks here: prompts and whispers come from WAV files of yours only; calls go on without",
            f"apt-get install espeak-ng, or put KEY.LANGUAGE.wav into {settings.prompts.own_dir}",
        )
    elif mute := [language for language in spoken if not engine.speaks(language)]:
        yield warn(
            "speech", f"{engine.name} does not speak {', '.join(mute)}", "apt-get install espeak-ng, or WAV files"
        )
    else:
        yield ok("speech", f"{engine.name} speaks {', '.join(spoken)}")
    yield _prompts(settings, [one for one in wanted if not one.text])
    yield from readable_for_asterisk(settings.prompts.dir, _owner(settings.asterisk.journal_dir))


def _prompts(settings: Settings, wanted: Iterable[prompts.Wanted]) -> Finding:
    from gateway.core import prompts
    from gateway.pbx import promptfiles

    check, folder = "prompts", promptfiles.PromptFolder(settings.prompts.dir)
    missing, there = [], 0
    for one in wanted:
        places = (f"{one.key}-{language}-*.json" for language in prompts.languages(one.language))
        if any(folder.ready(file.with_suffix("")) for place in places for file in folder.folder.glob(place)):
            there += 1
        else:
            missing.append(f"{one.key}.{one.language}")
    if not missing:
        return ok(check, f"all {there} that the routing names are in {folder.folder}")
    more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
    text = f"{', '.join(missing[:NAMED])}{more} not ready in {folder.folder}"
    advice = "the daemon renders them when a revision comes into force; `dialmark health` and its log say what is wrong"
    if any(name.startswith(("consent_", "leave_message")) for name in missing):
        return fail(check, f"{text}: calls that must be asked are not recorded", advice)
    return warn(check, text, advice)


def readable_for_asterisk(folder: Path, other: int | None) -> Iterator[Finding]:
    """Every folder on the way must let Asterisk's user (an id) pass, and the last one be read."""
    if other in (None, 0) or not folder.is_dir():
        return
    assert other is not None
    for place in (folder, *folder.parents):
        status = place.stat()
        shift = 6 if status.st_uid == other else 3 if _is_member(other, status.st_gid) else 0
        needed = 0o5 if place == folder else 0o1
        if (status.st_mode >> shift) & needed != needed:
            yield fail(
                "prompts for Asterisk",
                f"{place} (mode {stat.S_IMODE(status.st_mode):04o}) does not let Asterisk ({_name(other)}) in",
                f"chmod o+{'rx' if place == folder else 'x'} {place}",
            )
            return
    yield ok("prompts for Asterisk", f"{folder} is readable for {_name(other)}")


def music(settings: Settings, *, is_wanted: bool) -> Iterator[Finding]:
    """Files of the music classes: who was asked for consent is answered, and waits in silence without them."""
    folders = (settings.asterisk.generated_dir, settings.asterisk.generated_dir.parent)
    etc = next((folder for folder in folders if (folder / "asterisk.conf").is_file()), None)
    if etc is None:
        return
    for name in ("ring", "wait"):
        folder = installation.ring_folder(etc).with_name(name)
        try:
            is_there = any(folder.iterdir())
        except OSError:
            is_there = False
        if is_there:
            yield ok(f"music class {name}", f"{folder}")
        else:
            yield (fail if is_wanted else warn)(
                f"music class {name}",
                f"{folder} is empty: callers who are answered already wait in silence",
                f"{MAKES_IT}; then `module reload res_musiconhold.so` in Asterisk's console",
            )


def spool_in_asterisk(held: str | None, settings: Settings, *, is_wanted: bool) -> Finding | None:
    """Where the loaded plan records to, which the daemon writes into it; None when that is as it must be."""
    if not is_wanted or held == str(settings.recording.spool_dir):
        return None
    return fail(
        "spool in Asterisk",
        f"the loaded plan records into '{held}'" if held else "the loaded plan records nothing: it names no spool",
        "without a usable key ring the daemon writes none; else restart it, and see `plan in Asterisk`",
    )


def _holds(folder: Path) -> bool:
    """Whether anything lies there, as far as we may look."""
    try:
        return any(folder.iterdir())
    except OSError:
        return False


def _owner(folder: Path) -> int | None:
    """Asterisk's user, as the owner of what it writes: the journal."""
    try:
        return folder.stat().st_uid
    except OSError:
        return None


def _is_member(user: int, group: int) -> bool:
    import pwd

    try:
        entry = pwd.getpwuid(user)
        return group in os.getgrouplist(entry.pw_name, entry.pw_gid)
    except KeyError:
        # A user without a name has, by custom, a group of the same number.
        return user == group


def _name(user: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)

"""`recordings …`: list, export, verify, rewrap, hold and release, restore, and new keys for the ring."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli import context, failures, output, vaults

if TYPE_CHECKING:
    from gateway import store
    from gateway.config.settings import Settings
    from gateway.store import keyring
    from gateway.store import recordings as stored

app = typer.Typer(help="Recordings: list, export, verify, hold, and the keys of the vault.", no_args_is_help=True)

COLUMNS = (
    output.Column("recording_id", "Recording"),
    output.Column("call_id", "Call"),
    output.Column("kind", "Kind"),
    output.Column("state", "State"),
    output.Column("started_at", "Started", table_key="started"),
    output.Column("duration_seconds", "Seconds", is_number=True),
    output.Column("held", "Held"),
    output.Column("why", "Why"),
)
Named = Annotated[str, typer.Argument(help="Id of the recording, or of a call with one recording.", metavar="ID")]


@app.command("list")
def list_recordings(
    call: Annotated[str | None, typer.Option("--call", help="Those of one call.", metavar="CALL-ID")] = None,
    state: Annotated[
        str | None, typer.Option("--state", help="stored, refused, condemned or shredded.", metavar="STATE")
    ] = None,
    held: Annotated[bool, typer.Option("--held", help="Only those under legal hold.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000)] = 50,
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """List recordings, newest first. Hears nothing, so it is not audited."""
    rows = context.run(_list(context.settings(config), call, state, held or None, limit))
    output.listing(rows, COLUMNS, form, nothing="No recording.")


@app.command()
def export(
    recording: Named,
    out: Annotated[Path | None, typer.Option("--out", help="File to write. [default: ID.mp3]", metavar="FILE")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Decrypt a recording into an MP3 file, readable by you alone. The audit says who did.

    Example: dialmark recordings export 0b6f… --out talk.mp3
    """
    settings = context.settings(config)
    one, path, proof = context.run(_export(settings, vaults.needed_ring(settings), recording, out, force))
    print(f"{path}: {one.audio_bytes:,} bytes, {one.duration_seconds:.1f} s, sha256 {one.digest}")
    if proof is not None:
        print(f"{proof}: the signed receipt of consent")


@app.command()
def receipt(
    call_id: Annotated[str, typer.Argument(help="The call.", metavar="CALL-ID")],
    out: Annotated[Path | None, typer.Option("--out", help="File to write. [default: stdout]", metavar="FILE")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Write a call's signed receipt of consent: what was asked and answered, and the journal rows that show it.

    It names no caller, and anybody can check it with `recordings check-receipt`. The audit says who exported it.
    """
    from gateway.cli import receipts

    if out is not None and out.exists() and not force:
        raise failures.Failure(f"{out} is there already; --force overwrites it")
    texts = context.run(receipts.export(context.settings(config), call_id))
    if out is None:
        print("".join(texts), end="")
        return
    for path, text in zip(receipts.paths(out, len(texts)), texts, strict=True):
        receipts.write(path, text)
        print(f"{path}: the signed receipt of consent")


@app.command("check-receipt")
def check_receipt(
    file: Annotated[Path, typer.Argument(help="An exported receipt.", metavar="FILE")],
    key: Annotated[
        list[str] | None, typer.Option("--key", help="Only this key counts (its id). Repeatable.", metavar="KEY-ID")
    ] = None,
) -> None:
    """Check an exported receipt. Needs neither database nor settings; exits 1 for one that was changed or cut.

    Without --key the key that stands in the file counts: compare its id with the one that the operator told you.
    """
    from gateway.cli import receipts

    print(receipts.check(file, key or []))


@app.command()
def verify(
    form: context.Format = output.Format.TABLE,
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Decrypt every recording and compare it with what was written; find files and keys that are lost. Exits 1 if any.

    Nobody hears anything, so only the run itself is audited.
    """
    settings = context.settings(config)
    checked, proofs, problems = context.run(_verify(settings, vaults.ring(settings)))
    columns = (
        output.Column("recording_id", "Recording"),
        output.Column("call_id", "Call"),
        output.Column("problem", "Problem"),
    )
    also = f" and {proofs} receipts" if proofs else ""
    output.listing(problems, columns, form, nothing=f"{checked} recordings{also} are whole.")
    if problems:
        raise typer.Exit(failures.EXIT_PROBLEM)


@app.command()
def rewrap(config: context.Config = context.DEFAULT_CONFIG) -> None:
    """Lock all recordings' keys with the current key of the ring; afterwards older keys can be taken out of it.

    Only 60 bytes per recording are written anew; the recordings stay as they are.
    """
    settings = context.settings(config)
    ring = vaults.needed_ring(settings)
    done, left = context.run(_rewrap(settings, ring))
    print(f"{done} keys are locked with '{ring.current}' now.")
    if left:
        raise failures.Failure("; ".join(left))


@app.command("new-key")
def new_key(name: Annotated[str, typer.Argument(help="Name of the key, for example 2026-11.", metavar="NAME")]) -> None:
    """Print a line for the key ring. Take the word `current` off the older line, restart, then `rewrap`."""
    from gateway.store import keyring

    try:
        print(keyring.new_line(name))
    except keyring.KeyRingError as error:
        raise failures.Misuse(f"NAME: {error}") from None
    output.note("Keep a copy away from this machine: without it no recording locked by it can ever be opened.")


@app.command()
def hold(
    recording: Named,
    why: Annotated[str, typer.Option("--why", help="Reason, for who asks later. No names.", metavar="TEXT")],
    config: context.Config = context.DEFAULT_CONFIG,
) -> None:
    """Put a recording under legal hold: neither retention nor `erase` touches it until it is released."""
    context.run(_change(context.settings(config), recording, "held", why))


@app.command()
def release(recording: Named, config: context.Config = context.DEFAULT_CONFIG) -> None:
    """End a legal hold; the rules of retention count again."""
    context.run(_change(context.settings(config), recording, "released"))


@app.command()
def restore(recording: Named, config: context.Config = context.DEFAULT_CONFIG) -> None:
    """Bring back a recording that retention has condemned, as long as its grace lasts."""
    context.run(_change(context.settings(config), recording, "restored"))


async def _list(
    settings: Settings, call: str | None, state: str | None, held: bool | None, limit: int
) -> list[dict[str, Any]]:
    from gateway.cli import moments
    from gateway.store import recordings as stored

    try:
        wanted = stored.State(state) if state else None
    except ValueError:
        raise failures.Misuse(f"--state: there are {', '.join(stored.State)}") from None
    async with context.database(settings) as database:
        async with database.read() as connection:
            asked = stored.RecordingFilter(call_id=call, state=wanted, is_held=held)
            found = await stored.list_recordings(connection, asked, limit=limit)
        zone = await context.site_zone(database)
    return [
        {
            "recording_id": one.recording_id,
            "call_id": one.call_id,
            "kind": one.kind,
            "state": one.state.value,
            "started_at": moments.rfc3339(one.started_us),
            "started": moments.shown(one.started_us, zone),
            "duration_seconds": one.duration_seconds,
            "held": one.held_us is not None,
            "why": one.held_why or one.why,
        }
        for one in found
    ]


async def _find(connection: store.Connection, name: str) -> stored.Recording:
    from gateway.store import recordings as stored

    one = await stored.get(connection, name)
    if one is not None:
        return one
    of_call = await stored.of_calls(connection, [name])
    if len(of_call) == 1:
        return of_call[0]
    if of_call:
        raise failures.Failure(f"the call has several: {', '.join(one.recording_id for one in of_call)}")
    raise failures.Failure(f"there is no recording '{output.plain(name[:40])}'; see `dialmark recordings list`")


async def _export(
    settings: Settings, ring: keyring.KeyRing, name: str, out: Path | None, force: bool
) -> tuple[stored.Recording, Path, Path | None]:
    """The recording, its file, and the file of its receipt if there is one."""
    from gateway.cli import moments, receipts
    from gateway.store import audit
    from gateway.store import recordings as stored

    async with context.database(settings) as database:
        async with database.read() as connection:
            one = await _find(connection, name)
            wrapped = await stored.key_of(connection, one.recording_id)
            signed = await receipts.exported(connection, one.call_id, receipts.ABOUT[one.kind])
        if one.state is not stored.State.STORED or wrapped is None:
            raise failures.Failure(f"the recording is {one.state.value}: {one.why or 'its key is gone'}")
        path = out or Path(f"{one.recording_id}.mp3")
        beside = receipts.beside(path)
        for there in (path, beside):
            if there.exists() and not force:
                raise failures.Failure(f"{there} is there already; --force overwrites it")
        key = _unwrapped(ring, wrapped, one)
        # Written down before the first byte leaves the vault.
        async with database.begin() as tx:
            await audit.append(
                tx,
                at_us=moments.micros(context.now()),
                actor=vaults.actor(),
                action="recording.exported",
                subject=stored.subject(one.recording_id),
                details={"call_id": one.call_id},
            )
    _decrypt(settings, one, key, path)
    for text in signed:
        receipts.write(beside, text)
    return one, path, beside if signed else None


def _unwrapped(ring: keyring.KeyRing, wrapped: keyring.Wrapped, one: stored.Recording) -> bytes:
    from gateway.store import keyring
    from gateway.store import recordings as stored

    try:
        return ring.unwrap(wrapped, stored.subject(one.recording_id))
    except keyring.KeyMissing as error:
        raise failures.Failure(str(error)) from None


def _decrypt(settings: Settings, one: stored.Recording, key: bytes, path: Path) -> None:
    from gateway.store import vault

    source = vault.file_of(settings.vault.dir, one.recording_id, one.started_us)
    draft = path.with_name(f".{path.name}.tmp")
    try:
        with (
            vault.Reader(source, key, one.recording_id) as reader,
            os.fdopen(os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file,
        ):
            for piece in reader.pieces(0, one.audio_bytes):
                file.write(piece)
        draft.replace(path)
    except (vault.VaultDamaged, vault.VaultMissing, OSError) as error:
        draft.unlink(missing_ok=True)
        raise failures.Failure(str(error)) from None


async def _verify(settings: Settings, ring: keyring.KeyRing | None) -> tuple[int, int, list[dict[str, Any]]]:
    """How many recordings and how many receipts are whole, and what is wrong with the others."""
    from gateway.cli import moments, receipts
    from gateway.store import audit, vault
    from gateway.store import receipts as stored_receipts
    from gateway.store import recordings as stored

    problems: list[dict[str, Any]] = []
    known: set[str] = set()
    checked = 0
    async with context.database(settings) as database:
        async with database.read() as connection:
            said = await stored.ring_problems(connection, ring)
            signing = await stored_receipts.keys(connection)
        problems += [{"recording_id": "-", "call_id": "-", "problem": one} for one in said.values()]
        last: stored.Recording | None = None
        while True:
            async with database.read() as connection:
                page = await stored.list_recordings(connection, stored.RecordingFilter(), after=last)
                keys = {one.recording_id: await stored.key_of(connection, one.recording_id) for one in page}
                consents = {one.recording_id: await receipts.consent_problem(connection, one, signing) for one in page}
            for one in page:
                if one.state is not stored.State.SHREDDED:
                    known.add(one.recording_id)
                    found = [_problem(settings, ring, one, keys[one.recording_id]), consents[one.recording_id]]
                    checked += not any(found)
                    problems += [
                        {"recording_id": one.recording_id, "call_id": one.call_id, "problem": problem}
                        for problem in found
                        if problem
                    ]
            if len(page) < stored.PAGE:
                break
            last = page[-1]
        proved, wrong = await receipts.verify(settings, database)
        problems += wrong
        async with database.begin() as tx:
            await audit.append(
                tx,
                at_us=moments.micros(context.now()),
                actor=vaults.actor(),
                action="recordings.verified",
                subject="vault",
                details={"whole": checked, "receipts": proved, "problems": len(problems)},
            )
    for path in sorted(settings.vault.dir.glob(f"[0-9]*/[0-9]*/[0-9]*/*{vault.SUFFIX}")):
        if path.stem not in known:
            problem = f"{path} belongs to no recording: noise, delete it"
            problems.append({"recording_id": path.stem, "call_id": "-", "problem": problem})
    return checked, proved, problems


def _problem(
    settings: Settings, ring: keyring.KeyRing | None, one: stored.Recording, wrapped: keyring.Wrapped | None
) -> str | None:
    """What is wrong with a recording, None when it is whole."""
    from gateway.store import keyring, vault
    from gateway.store import recordings as stored

    if wrapped is None:
        return "its key is not in the database"
    if ring is None:
        return f"locked by key '{wrapped.key_id}', and there is no key ring"
    try:
        key = ring.unwrap(wrapped, stored.subject(one.recording_id))
        path = vault.file_of(settings.vault.dir, one.recording_id, one.started_us)
        digest, length = hashlib.sha256(), 0
        with vault.Reader(path, key, one.recording_id) as reader:
            for piece in reader.pieces():
                digest.update(piece[: max(0, one.audio_bytes - length)])
                length += len(piece)
    except (keyring.KeyMissing, vault.VaultDamaged, vault.VaultMissing, OSError) as error:
        return str(error)
    if length != one.audio_bytes + one.peaks_bytes or digest.hexdigest() != one.digest:
        return "the file is genuine but not the one that was registered"
    return None


async def _rewrap(settings: Settings, ring: keyring.KeyRing) -> tuple[int, list[str]]:
    from gateway.cli import moments
    from gateway.store import audit, keyring
    from gateway.store import recordings as stored

    done = 0
    async with context.database(settings) as database:
        try:
            while True:
                async with database.begin() as tx:
                    some = await stored.rewrap(tx, ring)
                done += some
                if some == 0:
                    break
        except keyring.KeyMissing as error:
            return done, [f"{error}: put that key back into the ring, then run this again"]
        async with database.begin() as tx:
            await audit.append(
                tx,
                at_us=moments.micros(context.now()),
                actor=vaults.actor(),
                action="recordings.rewrapped",
                subject="vault",
                details={"keys": done, "current": ring.current},
            )
    return done, []


async def _change(settings: Settings, name: str, what: str, why: str = "") -> None:
    from gateway.cli import moments
    from gateway.store import audit
    from gateway.store import recordings as stored

    now_us = moments.micros(context.now())
    async with context.database(settings) as database, database.begin() as tx:
        one = await _find(tx, name)
        match what:
            case "held":
                is_done = await stored.hold(tx, one.recording_id, why=why, now_us=now_us)
            case "released":
                is_done = await stored.release(tx, one.recording_id)
            case _:
                is_done = await stored.restore(tx, one.recording_id)
        if not is_done:
            hold = "under" if one.held_us is not None else "not under"
            raise failures.Failure(f"the recording cannot be {what}: it is {one.state.value} and {hold} legal hold")
        await audit.append(
            tx,
            at_us=now_us,
            actor=vaults.actor(),
            action=f"recording.{what}",
            subject=stored.subject(one.recording_id),
            details={"call_id": one.call_id},
        )
    print(f"{one.recording_id} is {what}.")

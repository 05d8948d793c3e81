"""The daemon and its recordings: what it says at the start, what calls get, how it ends (N3, R33, R42)."""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from collections.abc import Callable

import pytest

from gateway.core import receipts as documents
from gateway.store import calls, keyring, receipts, recordings, signatures, vault
from tests import audio
from tests.config import files
from tests.daemon.site import KEYS, RECORDED, Site
from tests.store import examples

CALL = examples.call_id(1)
VOICEMAIL = files.with_line('key = "sales"', 'unanswered = "voicemail"')


@pytest.fixture
def make_site(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Site]:
    """A site on a database of its own. The folder's path is short: that of prompts has a bound."""

    def make(database_url: str | None = None) -> Site:
        folder = tmp_path_factory.mktemp("s")
        return Site(folder, database_url or f"sqlite:///{folder}/dialmark.db")

    return make


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """On SQLite."""
    return make_site()


def put(site: Site, sound: bytes, call_id: str = CALL) -> None:
    """Both sides of a call in the spool, at rest for a minute."""
    for side in ("caller", "agent"):
        path = site.spool / f"{call_id}.1-{side}.sln"
        path.write_bytes(sound)
        os.utime(path, (time.time() - 60, time.time() - 60))


async def file_call(site: Site, *, is_granted: bool = True) -> None:
    """A call that is over, with a receipt that the site's own key signed."""
    signer = signatures.Signer.load(site.signing_key)
    said = {
        "receipt": 1,
        "call_id": CALL,
        "result": "granted" if is_granted else "refused",
        "recording_allowed": is_granted,
        "announcement_in_recording": False,
    }
    document = documents.canonical(said).decode()
    signed = receipts.Signed(CALL, "talk", document, signer.sign(said).value, signer.key_id, examples.NOON)
    async with site.open_store() as database, database.begin() as tx:
        await calls.save(tx, [examples.call(1)])
        await receipts.learn_key(tx, signer, node="main", now_us=examples.NOON)
        await receipts.keep(tx, [signed])


async def stored(site: Site) -> list[recordings.Recording]:
    async with site.open_store() as database, database.read() as connection:
        return await recordings.list_recordings(connection, recordings.RecordingFilter())


async def lock(site: Site, key_line: str) -> None:
    """A recording whose key is wrapped by the ring of this line."""
    ring = keyring.parse(key_line)
    made = recordings.Recording(
        recording_id=examples.call_id(1001),
        call_id=examples.call_id(2),
        node="main",
        kind="talk",
        state=recordings.State.STORED,
        started_us=examples.NOON,
        duration_seconds=1.0,
        parts="1",
        audio_bytes=1,
        peaks_bytes=1,
        digest="0",
        created_us=examples.NOON,
    )
    wrapped = ring.wrap(vault.new_key(), recordings.subject(made.recording_id))
    async with site.open_store() as database, database.begin() as tx:
        await recordings.register(tx, made, wrapped)


async def test_from_the_spool_into_the_vault(make_site: Callable[..., Site], database_url: str) -> None:
    """With record and receipt in the store: encrypted, announced, counted, nothing left in plain."""
    site = make_site(database_url)
    await site.apply(RECORDED)
    async with site.running():
        assert (await site.check())["well"]
        plan = await site.plan()
        assert (plan["DM_ACT"], plan["DM_CM"]) == ("full", "none")
        assert site.globals()["DM_SPOOL"] == str(site.spool)
        await file_call(site)
        put(site, audio.tone(audio.CALLER_HZ, 2.0))
        found = await site.until_check({"stored": 1, "waiting": 0})
        assert (found["well"], found["summary"], found["required"]) == (True, "0 waiting", False)
        metrics = await site.metrics()
        await site.until(lambda: len(site.events()) == 1, "the event in the file")
    assert metrics['dialmark_recordings_total{result="stored"}'] == 1
    assert metrics["dialmark_recorded_seconds_total"] == 2.0
    assert (metrics["dialmark_recording_accepted"], metrics["dialmark_recording_problem"]) == (1, 0)
    (one,) = await stored(site)
    assert (one.state, one.duration_seconds) == (recordings.State.STORED, 2.0)
    assert vault.file_of(site.vault, one.recording_id, one.started_us).is_file()
    assert [path for path in site.spool.iterdir() if not path.name.startswith(".")] == []
    (ready,) = site.events()
    assert (ready["type"], ready["data"]["recording_id"]) == ("recording.ready", one.recording_id)
    assert stat.S_IMODE(site.signing_key.stat().st_mode) == 0o600
    assert site.code == 0


@pytest.mark.parametrize("how", ["refused", "forged"])
async def test_sound_without_a_granted_receipt_of_ours_is_locked_away(site: Site, how: str) -> None:
    await site.apply(RECORDED)
    async with site.running():
        await file_call(site, is_granted=how != "refused")
        if how == "forged":
            async with site.open_store() as database, database.begin() as tx:
                (kept,) = await receipts.page(tx)
                forged = kept.document.replace("granted", "Granted")
                await receipts.keep(tx, [receipts.Signed(CALL, "talk", forged, kept.signature, kept.key_id, 1)])
        put(site, audio.tone(audio.CALLER_HZ, 1.0))
        await site.until_check({"refused": 1})
        await site.until(lambda: len(site.events()) == 1, "the alarm in the file")
    (one,) = await stored(site)
    assert one.state is recordings.State.REFUSED
    assert (one.why or "").startswith("consent refused" if how == "refused" else "consent not proved: ")
    assert site.events()[0]["data"]["kind"] == "recording-without-consent"


async def test_without_a_ring_that_nobody_asked_for_all_is_well(site: Site) -> None:
    """A node that never records: no key is made, and nobody is bothered."""
    site.settings["vault"]["keys_file"] = ""
    await site.apply(files.SMALL)
    async with site.running():
        found = await site.check()
        assert (found["well"], found["summary"]) == (True, "no key ring, no recording")
        assert site.globals()["DM_SPOOL"] == ""
    assert not site.signing_key.exists()
    assert site.events() == []
    assert not any("[error" in line for line in site.said)


RINGS: dict[str, tuple[str | None, str]] = {
    "none": ("", "the routing asks for recording, and there is no key ring"),
    "missing": (None, "cannot be read: No such file or directory"),
    "broken": ("2026-11 n%nsense\n", "the key ring is not readable: line 1: the key of '2026-11' is not base64"),
}


@pytest.mark.parametrize("which", RINGS)
@pytest.mark.parametrize("routing", [RECORDED, VOICEMAIL], ids=["recording", "voicemail"])
async def test_without_a_ring_calls_go_on_unrecorded(site: Site, which: str, routing: str) -> None:
    """R33: said at the start, by log and health; nobody is asked for a consent or a message that would be lost."""
    text, problem = RINGS[which]
    if text is None:
        site.keys.unlink()
    elif text:
        site.keys.write_text(text)
    else:
        site.settings["vault"]["keys_file"] = ""
    await site.apply(routing)
    async with site.running():
        found = await site.check()
        assert not found["well"]
        assert problem in found["summary"]
        plan = await site.plan()
        assert plan["DM_OK"] == "1"
        assert not {"DM_CM", "DM_UN"} & plan.keys()
        assert site.globals()["DM_SPOOL"] == ""
        assert any("the routing asks for recording, and nothing can be recorded" in line for line in site.said)
    assert site.code == 0


async def test_a_ring_that_lacks_a_key_is_said_at_the_start(site: Site) -> None:
    """R33: with the number of recordings it concerns; new ones are made with the key that is there."""
    await site.apply(RECORDED)
    await lock(site, KEYS)
    site.keys.write_text(keyring.new_line("2027-01"))
    async with site.running():
        found = await site.check()
        assert not found["well"]
        assert found["summary"].startswith("1 recordings cannot be opened: key '2026-11' is not in the ring")
        assert any("key ring or signing key not usable" in line and "2026-11" in line for line in site.said)
        assert "DM_CM" in await site.plan()
        put(site, audio.tone(440, 1.0))
        await file_call(site)
        await site.until_check({"stored": 1, "recorded": True})
        assert (await site.metrics())["dialmark_recording_problem"] == 1


async def test_another_key_under_the_same_id_stops_recording(site: Site) -> None:
    """R33: nobody knows which of the two is right; the right ring mends it, and what waited is stored."""
    await site.apply(RECORDED)
    await lock(site, KEYS)
    site.keys.write_text(keyring.new_line(KEYS.split()[0]))
    async with site.running():
        assert "1 recordings cannot be opened: key '2026-11' of the ring" in (await site.check())["summary"]
        assert "DM_CM" not in await site.plan()
        put(site, audio.tone(440, 1.0))
        await file_call(site)
        await site.until_check({"waiting": 1})
        assert (await site.metrics())["dialmark_recording_problem"] == 1
        await site.until(lambda: bool(site.events()), "the alarm in the file")
    assert site.events()[0]["data"]["kind"] == "recording-stopped"
    assert len(list(site.spool.glob("*.sln"))) == 2
    site.keys.write_text(f"{KEYS}\n")
    async with site.running():
        await site.until_check({"stored": 1, "recorded": True})
        assert "DM_CM" in await site.plan()


@pytest.mark.parametrize("what", ["readable by others", "no key", "no folder"])
async def test_without_a_signing_key_nothing_is_recorded(site: Site, what: str) -> None:
    """N3: what cannot be proved must not be recorded."""
    await site.apply(RECORDED)
    if what == "no folder":
        site.settings["recording"]["signing_key_file"] = f"{site.folder}/nowhere/receipts.key"
    else:
        site.signing_key.write_text("x\n")
        site.signing_key.chmod(0o644 if what == "readable by others" else 0o600)
    async with site.running():
        found = await site.check()
        assert (found["well"], found["facts"]["recorded"]) == (False, False)
        assert found["summary"].startswith("no receipt can be signed: ")
        assert "DM_CM" not in await site.plan()


@pytest.mark.parametrize(
    ("what", "problem"),
    [("missing", "the spool cannot be read: No such file"), ("full", "the spool is nearly full: ")],
)
async def test_a_spool_that_is_full_or_missing_stops_recording_and_no_call(site: Site, what: str, problem: str) -> None:
    """R42."""
    if what == "missing":
        site.spool.rmdir()
    else:
        site.settings["recording"]["min_free_percent"] = 100
    await site.apply(RECORDED)
    async with site.running():
        # The first call already: the spool is looked at before FastAGI answers.
        plan = await site.plan()
        assert "DM_CM" not in plan
        assert plan["DM_OK"] == "1"
        found = await site.check()
        assert not found["well"]
        assert problem in found["summary"] or "recordings wait in the spool" in found["summary"]
        assert (await site.metrics())["dialmark_recording_accepted"] == 0
        await site.until(lambda: bool(site.events()), "the alarm in the file")
        explained = await site.run("explain", "+74990000001")
        assert "nothing is recorded, and no message taken: " in explained
        # Without the daemon the default plan goes on by its own; that there is a ring is what it can know.
        assert site.globals()["DM_SPOOL"] == str(site.spool)
    assert problem in site.events()[0]["data"]["message"]


async def test_sigterm_in_the_middle_of_an_encryption(site: Site) -> None:
    """The daemon ends in time, nothing half made stays, and the sound waits in plain for the next start."""
    await site.apply(RECORDED)
    async with site.running():
        await file_call(site)
        put(site, audio.tone(440, 10.0) * 600)
        await site.until(lambda: bool(list(site.vault.rglob(".*.tmp"))), "a draft in the vault")
        started = time.monotonic()
    assert time.monotonic() - started < 8.0
    assert site.code == 0, site.said
    assert [path for path in site.vault.rglob("*") if path.is_file()] == []
    assert len(list(site.spool.glob("*.sln"))) == 2
    assert await stored(site) == []
    assert any("finish the recording that is being encrypted" in line for line in site.said)
    put(site, audio.tone(440, 1.0))
    async with site.running():
        await site.until_check({"stored": 1, "waiting": 0})
    assert [one.duration_seconds for one in await stored(site)] == [1.0]


async def test_sigkill_in_the_middle_of_an_encryption(site: Site) -> None:
    await site.apply(RECORDED)
    async with site.running():
        await file_call(site)
        put(site, audio.tone(440, 10.0) * 60)
        await site.until(lambda: bool(list(site.vault.rglob(".*.tmp"))), "a draft in the vault")
        site.kill()
    assert site.code == -signal.SIGKILL
    async with site.running():
        await site.until_check({"stored": 1, "waiting": 0})
    assert [one.duration_seconds for one in await stored(site)] == [600.0]
    assert len([path for path in site.vault.rglob("*") if path.is_file()]) == 1


async def test_each_finished_recording_is_given_to_the_command(site: Site) -> None:
    """R120."""
    site.settings["recording"]["command"] = ["/bin/sh", "-c", 'cat >/dev/null; echo \'{"mood": "calm"}\'']
    await site.apply(RECORDED)
    async with site.running():
        await file_call(site)
        put(site, audio.tone(440, 1.0))
        await site.until(lambda: len(site.events()) == 2, "both events in the file")
        assert (await site.metrics())['dialmark_recording_analyses_total{result="analysed"}'] == 1
        assert (await site.check())["well"]
    assert [event["type"] for event in site.events()] == ["recording.ready", "recording.analysed"]
    (one,) = await stored(site)
    assert json.loads(one.analysis or "") == {"mood": "calm"}

"""Asterisk, the daemon and SIP parties on loopback; real calls, their records and recordings against what was expected.

``python scripts/lib/demo.py [--once]``, started by ``scripts/demo``. Everything lives in one folder below /tmp and is
gone at the end. The routing is ``config/routing.example.toml``, whose numbers say which call is theirs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import shutil
import signal
import sys
import textwrap
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from demo_calls import CALLS, LATER, VISITOR, Call
from demo_receiver import TARGET, Receiver

from gateway.cli import failures
from tests.rig import AGENT_HZ, CALLER_HZ, Address, AsteriskNode, Behaviour, Daemon, Key, Rig, Voice, landing, voice_of
from tests.rig.asterisk import new_folder
from tests.rig.dialmark import CommandFailed
from tests.rig.sipp import tone

ROOT = Path(__file__).resolve().parents[2]
ROUTING = ROOT / "config" / "routing.example.toml"
# As config/routing.example.toml has it.
CARRIERS = {"carrier-a": Address("127.0.0.2", 5070)}
PHONES = ("desk-1", "desk-2")
RECORD_SECONDS = 10.0
PROMPT_SECONDS = 60.0
CLEAR_SECONDS = 10.0
# What was on its way when the daemon was killed goes again when its lease of 30 s is over.
TOLD_SECONDS = 45.0
TONE_HZ = 700
PAUSE_SECONDS = (3.0, 9.0)
# Into the question, which need not be heard to its end.
KEY_AFTER_MS = 800
# The tone after which a message is left (dialplans/services.conf).
BEEP_HZ = 1000
PROMPTS = ("consent_opt_in-ru-", "consent_opt_in-en-", "leave_message-en-")
"""Beginnings of files that the calls below need."""
# The web site in the example, and what a visitor's link says.
WEB_HOST = 'hosts = ["clinic.example"]'
SITE, SITE_NUMBER, PRINTED, NATIONAL = "clinic", "+74990000000", "+7 (499) 000-00-00", "8 499 000-00-00"
TAGS = {"utm_source": "google", "utm_medium": "cpc", "utm_campaign": "spring", "utm_term": "implants"}
CAMPAIGNS = ("spring", "spring", "implants", "whitening")
SURE = 0.8
# Ends and beginnings of two bridged channels, and whole frames of the MP3.
LENGTHS_DIFFER_SECONDS = 0.5

Record = dict[str, Any]


# -- what the person sees --------------------------------------------------------------------------------------------

IS_TERMINAL = sys.stdout.isatty()


def say(text: str = "") -> None:
    """A line for the person who watches, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def styled(code: str, text: str) -> str:
    return f"\033[{code}m{text}\033[0m" if IS_TERMINAL else text


def heading(text: str) -> None:
    say(styled("1", f"▶ {text}"))


@contextlib.asynccontextmanager
async def waiting(text: str) -> AsyncIterator[None]:
    """Show a step under way and its seconds, on a line that vanishes with it; nothing where nobody looks."""
    if not IS_TERMINAL:
        yield
        return

    async def tick() -> None:
        started = time.monotonic()
        while True:
            sys.stdout.write(f"\r\033[K\033[2m  … {text}, {time.monotonic() - started:.0f} s\033[0m")
            sys.stdout.flush()
            await asyncio.sleep(0.25)

    ticking = asyncio.create_task(tick())
    try:
        yield
    finally:
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking
        sys.stdout.write("\r\033[K")


def way_of(record: Record) -> str:
    """Who was rung, step by step: ``reception busy → second-desk answered``."""
    words = {"no_answer": "no answer", "not_accepted": "dropped", "cancelled": "rang", "abandoned": "rang"}
    steps = [
        ", ".join(
            f"{attempt['destination']} {words.get(attempt['outcome'], attempt['outcome'])}" for attempt in members
        )
        for _, members in groupby(record["attempts"], key=lambda attempt: attempt["step"])
    ]
    return " → ".join(steps) or "nobody rung"


def consent_of(record: Record) -> str:
    """``consent granted, key 1``; "" where nobody was asked."""
    given = record["recording_consent"]
    if given["mode"] == "off":
        return ""
    return f"consent {given['result']}" + (f", key {given['key']}" if given["key"] else "")


def visitor_of(record: Record) -> str:
    """``campaign spring, keyword implants · visitor 1a2b3c4d, 99 % sure``."""
    said = record["attribution"]
    words = [f"campaign {said['campaign']}", f"keyword {said['term']}"]
    who = f"visitor {str(said['visitor_id'])[:8]}, {100 * said['confidence']:.0f} % sure"
    return f"{', '.join(words)} · {who}"


def tell(call: Call, record: Record | None, sound: Sequence[Sound], wrong: Sequence[str], page: str) -> None:
    """The lines of a call that has ended: two, and two more where it was asked for consent or recorded."""
    mark = styled("31", "✗") if wrong else styled("32", "✓")
    outcome = record["outcome"] if record else "no record"
    say(f"  {mark} {call.number}  {call.source:14} {call.title:28}  {outcome}")
    if record is not None:
        talk = f", talk {record['talk_seconds']:.1f}" if record["talk_seconds"] else ""
        parts = [way_of(record), f"wait {record['wait_seconds']:.1f}{talk} s"]
        if record["experience"]["prompt_seconds"]:
            parts.append(f"prompts {record['experience']['prompt_seconds']:.1f} s")
        if record["route_source"] != "agi":
            parts.append("default plan")
        say(styled("2", f"    {' · '.join(parts)}"))
        if call.is_visitor:
            say(styled("2", f"    {visitor_of(record)}"))
        if call.has_voices:
            kept = [f"{one.kind} recorded, {one.seconds:.1f} s" for one in sound] or ["not recorded"]
            say(styled("2", f"    {' · '.join([*filter(None, [consent_of(record)]), *kept])}"))
            say(styled("2", f"    {page}calls/{record['call_id']}"))
    for one in wrong:
        say(styled("31", f"    {one}"))


def table(records: Sequence[Record]) -> None:
    """The calls, oldest first, within 80 columns."""
    rows = [("Caller", "Number", "Source", "Outcome", "Agent", "Wait", "Talk")]
    rows += [
        (
            str(record["caller"]["number"]),
            str(record["tracking"]["number"]),
            str(record["attribution"]["source"]),
            str(record["outcome"]),
            str(record["agent"] or "-"),
            f"{record['wait_seconds']:.1f}",
            f"{record['talk_seconds']:.1f}",
        )
        for record in records
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        cells = [
            cell.rjust(width) if place > 4 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        line = "  " + "  ".join(cells)
        say(styled("2", line) if number == 0 else line)


def summary(difference: str) -> str:
    """What ``dialmark apply`` printed, counted: ``1 site, 1 trunk, 8 sources …``."""
    kinds = ("site", "trunk", "source", "agent", "destination", "hours", "route", "tracking number", "pool", "ban")
    counts = Counter(
        kind for line in difference.splitlines() for kind in kinds if line.removeprefix("+ ").startswith(f"{kind} ")
    )
    plural = {"hours": "timetable"}
    said = [(counts[kind], plural.get(kind, kind)) for kind in kinds if counts[kind]]
    return ", ".join(f"{count} {word}{'s' if count > 1 else ''}" for count, word in said)


# -- calls -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sound:
    """A recording in the vault."""

    kind: str
    state: str
    seconds: float


def judge(call: Call, record: Record, sound: Sequence[Sound]) -> list[str]:
    """What is wrong with the record of a call and its recordings; nothing when they are as expected."""
    least = record["talk_seconds"] if call.recorded == "talk" else call.hold_ms / 1000
    seen_and_wanted = {
        "outcome": (record["outcome"], call.outcome),
        "source": (record["attribution"]["source"], call.source),
        "number": (record["tracking"]["number"], call.number),
        "way": (way_of(record), call.way),
        "plan from": (record["route_source"], "plan" if call.is_daemon_dead else "agi"),
        "missed": (record["missed"], call.outcome not in ("answered", "banned")),
        "talked": (record["talk_seconds"] > 0, call.outcome == "answered"),
        "heard the message": (
            record["experience"]["prompt_seconds"] >= call.prompt_seconds,
            True,
        ),
        "consent": (record["recording_consent"]["result"] if call.consent else "", call.consent),
        "recorded": ([(one.kind, one.state) for one in sound], [(call.recorded, "stored")] if call.recorded else []),
        "recorded all of it": (
            all(abs(one.seconds - least) < LENGTHS_DIFFER_SECONDS for one in sound),
            True,
        ),
    }
    return [f"{what}: {seen}, not {wanted}" for what, (seen, wanted) in seen_and_wanted.items() if seen != wanted]


def judge_visitor(record: Record, shown: landing.Shown) -> list[str]:
    """What is wrong with who the record says has called."""
    said = record["attribution"]
    seen_and_wanted = {
        "method": (said["method"], "visitor"),
        "visitor": (said["visitor_id"], shown.visitor),
        "campaign": (said["campaign"], TAGS["utm_campaign"]),
        "keyword": (said["term"], TAGS["utm_term"]),
        "sure": (said["confidence"] >= SURE, True),
        "kind of number": (record["tracking"]["kind"], "pool"),
        "another number than the printed one": (shown.number != SITE_NUMBER, True),
    }
    return [f"{what}: {seen}, not {wanted}" for what, (seen, wanted) in seen_and_wanted.items() if seen != wanted]


async def dial(rig: Rig, call: Call) -> list[str]:
    """Make the call and wait for its end; what the caller missed."""
    voice = Voice(AGENT_HZ) if call.has_voices else None
    for name in PHONES:
        behaviour = call.parties.get(name, Behaviour.DEAD)
        rig.callee(name, behaviour, ring_ms=call.ring_ms, echo=call.has_audio, voice=voice)
    number = call.number.removeprefix("+")
    if call.has_voices:
        return await talk(rig, call, number)
    if not call.has_audio:
        await rig.call(number, caller=call.caller, hold_ms=call.hold_ms, patience_ms=call.patience_ms)
        return []
    caller = await rig.dial(number, from_header=f"<sip:{call.caller}@carrier.invalid>")
    if await caller.final() != 200:
        return ["the caller was not connected"]
    speaking = asyncio.create_task(caller.speak(tone(rig.node.folder, TONE_HZ).read_bytes() * 60))
    try:
        await caller.until_heard(TONE_HZ, 5.0)
        await asyncio.sleep(call.hold_ms / 1000)
    except TimeoutError:
        return ["the caller does not hear himself: no audio"]
    finally:
        speaking.cancel()
        caller.hang_up()
    return []


async def talk(rig: Rig, call: Call, number: str) -> list[str]:
    """The call of one who speaks, presses a key if he is asked, and hangs up; what he missed."""
    keys = [Key(call.key, after_ms=KEY_AFTER_MS)] if call.key else []
    sender = f"<sip:{call.caller}@carrier.invalid>"
    caller = await rig.dial(number, from_header=sender, voice=Voice(CALLER_HZ, keys=keys))
    if await caller.final() != 200:
        return ["the caller was not connected"]
    awaited = (BEEP_HZ,) if call.recorded == "voicemail" else voice_of(AGENT_HZ)
    try:
        await caller.headset.until_heard(*awaited, seconds=25.0)
        await asyncio.sleep(call.hold_ms / 1000)
    except TimeoutError:
        return ["the caller does not hear the agent, or the tone before a message"]
    finally:
        caller.hang_up()
    return []


async def sound_of(daemon: Daemon, call: Call, call_id: str) -> tuple[list[Sound], list[str]]:
    """What the vault has of a call, waited for where something is expected; what is wrong with the spool."""
    sql = "SELECT kind, state, duration_seconds FROM recordings WHERE call_id = ?"
    deadline = asyncio.get_running_loop().time() + RECORD_SECONDS

    def left() -> list[str]:
        return [file.name for file in daemon.node.recordings.iterdir() if file.name.startswith(call_id)]

    while left() or (call.recorded and not daemon.query(sql, call_id)):
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(0.05)
    found = [Sound(*row) for row in daemon.query(sql, call_id)]
    return found, [f"plain sound is left: {name}" for name in left()]


async def until_prompts(daemon: Daemon) -> None:
    """Return when the plans have the prompts that the calls need; from then on the daemon's answers have them too."""
    plan = daemon.node.etc / "dialmark_plan.conf"
    deadline = asyncio.get_running_loop().time() + PROMPT_SECONDS
    while not all(f"/{prompt}" in plan.read_text() for prompt in PROMPTS):
        if asyncio.get_running_loop().time() > deadline:
            raise RuntimeError(f"prompts are not ready after {PROMPT_SECONDS:.0f} s:\n{daemon.log()}")
        await asyncio.sleep(0.05)


async def record_of(daemon: Daemon, caller: str) -> Record | None:
    """The one record of this caller's ended call, waited for."""
    deadline = asyncio.get_running_loop().time() + RECORD_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        mine = [record for record in daemon.stored() if record["caller"]["number"] == caller]
        if mine:
            return mine[0] if len(mine) == 1 else None
        await asyncio.sleep(0.05)
    return None


async def place_visitor(rig: Rig, daemon: Daemon, call: Call, page: landing.LandingPage) -> bool:
    """A visitor follows a tagged link, sees a number of their own, and calls it while the page is open."""
    binary = landing.browser()
    address = page.address(**TAGS)
    say(styled("2", f"  {'Chromium' if binary else 'a visitor without a browser'} opens"))
    say(styled("2", textwrap.fill(address, 76, initial_indent="    ", subsequent_indent="    ")))
    async with contextlib.AsyncExitStack() as stack:
        try:
            async with waiting("the landing page asks for a number"):
                shown = await stack.enter_async_context(landing.visitor(page, address, binary))
        except (RuntimeError, failures.Failure) as error:
            tell(call, None, [], [str(error)], "")
            return False
        say(styled("2", f"  and is shown {shown.number} in place of {SITE_NUMBER}"))
        return await place(rig, daemon, replace(call, number=shown.number), shown)


async def place(rig: Rig, daemon: Daemon, call: Call, shown: landing.Shown | None = None) -> bool:
    """Make the call, wait for its record, print what became of it; whether all was as expected."""
    if call.is_daemon_dead:
        daemon.kill()
        say(styled("33", "  ! the daemon is killed (SIGKILL); Asterisk has each number's default plan"))
    if call.has_voices:
        async with waiting("prompts in Russian and English are spoken"):
            await until_prompts(daemon)
    async with waiting(f"{call.number}, {call.title}"):
        wrong = await dial(rig, call)
        if call.is_daemon_dead:
            daemon.start()
            await daemon.until_ready()
        record = await record_of(daemon, call.caller)
        sound, left = ([], []) if record is None else await sound_of(daemon, call, record["call_id"])
    wrong += ["not exactly one record"] if record is None else [*judge(call, record, sound), *left]
    if shown is not None and record is not None:
        wrong += judge_visitor(record, shown)
    tell(call, record, sound, wrong, f"http://{daemon.admin}/")
    if call.is_daemon_dead:
        say(styled("33", "  ! put through without it; recorded from the journal when it was back"))
    return not wrong


async def place_all(rig: Rig, daemon: Daemon, page: landing.LandingPage) -> int:
    """The calls in order, each from a caller of its own; how many were as expected."""
    good = 0
    for place_, call in enumerate(CALLS, start=1):
        named = replace(call, caller=call.caller or f"+791611100{place_:02}")
        visits = place_visitor(rig, daemon, named, page) if call.is_visitor else place(rig, daemon, named)
        good += await visits
    return good


async def keep_calling(rig: Rig, page: landing.LandingPage) -> None:
    """A call now and then, for ever, so that the page moves; at once when the landing page asks for one."""
    chance = random.Random()  # noqa: S311 - which call comes next is no secret
    while True:
        call = chance.choice(LATER)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(chance.uniform(*PAUSE_SECONDS)):
                call = replace(VISITOR, number=await page.asked.get())
        if call.is_visitor and not call.number:
            with contextlib.suppress(RuntimeError, OSError):
                tags = {**TAGS, "utm_campaign": chance.choice(CAMPAIGNS)}
                call = replace(call, number=(await landing.over_http(page, page.address(**tags))).number)
            if not call.number:
                continue
        caller = f"+7916{chance.randrange(2_000_000, 9_999_999)}"
        hold_ms = chance.randrange(3000, 12_000)
        call = replace(call, caller=caller, hold_ms=hold_ms, ring_ms=chance.randrange(500, 4000))
        async with waiting(f"{call.number}, {call.title}"):
            with contextlib.suppress(TimeoutError):
                await dial(rig, call)


# -- the whole -------------------------------------------------------------------------------------------------------


async def start(node: AsteriskNode, daemon: Daemon, receiver: Receiver) -> None:
    """Asterisk and the daemon, with the example in force."""
    heading("Asterisk")
    async with waiting("starting"):
        await asyncio.to_thread(node.start)
    version = re.match(r"[\d.]+", node.installation.version)
    say(f"  {version[0] if version else ''} on {node.sip}, without a right of root")
    heading("Dialmark")
    say(styled("2", f"  $ dialmark apply {ROUTING.relative_to(ROOT)}"))
    # The demo's page of the clinic is on this machine, and so is a program that takes webhooks.
    await receiver.open()
    text = ROUTING.read_text(encoding="utf-8").replace(WEB_HOST, WEB_HOST.replace("]", f', "{landing.HOST}"]'))
    routing = node.folder / "routing.toml"
    routing.write_text(text + receiver.routing(), encoding="utf-8")
    async with waiting("checking the routing"):
        applied = await asyncio.to_thread(daemon.run, "apply", str(routing))
    say(textwrap.fill(summary(applied), 78, initial_indent="  ", subsequent_indent="  "))
    say(styled("2", "  $ dialmark run"))
    started = time.monotonic()
    async with waiting("starting"):
        daemon.start()
        await daemon.until_ready()
        # The trunk reaches Asterisk by the generated files, a second after the revision.
        await asyncio.to_thread(node.until_endpoint, "carrier-a")
    say(f"  ready after {time.monotonic() - started:.1f} s")


async def show_result(daemon: Daemon) -> bool:
    """The table, and what two commands say that verify records and recordings; whether they found nothing."""
    heading("the records, as the command line, the API and the page have them")
    table(daemon.stored())
    say(styled("2", "  $ dialmark verify"))
    async with waiting("counting"):
        found = await asyncio.to_thread(daemon.verify)
    missing, doubled, invented = found["missing"], found["doubled"], found["invented"]
    say(f"  {missing} of {found['channels']} missing, {doubled} doubled, {invented} invented")
    say(styled("2", "  $ dialmark recordings verify"))
    async with waiting("decrypting"):
        try:
            await asyncio.to_thread(daemon.run, "recordings", "verify")
            [(stored,)] = daemon.query("SELECT count(*) FROM recordings")
            said, is_whole = f"{stored} recordings are whole", True
        except CommandFailed as failed:
            said, is_whole = f"{failed.output}{failed.errors}", False
    say(textwrap.indent(said.rstrip(), "  "))
    return is_whole and not (missing or doubled or invented)


async def show_tickets(daemon: Daemon) -> bool:
    """Who is to be called back; whether it is whoever missed us and did not give up at once."""
    heading("who has to be called back")
    say(styled("2", "  $ dialmark tickets list"))
    async with waiting("asking"):
        found = json.loads(await asyncio.to_thread(daemon.run, "tickets", "list", "--format", "json"))
    for one in found:
        say(f"  {one['number']}  {one['caller']}  {one['cause'].replace('_', ' ')}, owner {one['owner'] or 'nobody'}")
    missed = {
        record["caller"]["number"]
        for record in daemon.stored()
        if record["missed"] and record["outcome"] != "abandoned"
    }
    callers = sorted(one["caller"] for one in found)
    if callers != sorted(missed):
        say(styled("31", f"  tickets of {callers}, but {sorted(missed)} were missed"))
    return callers == sorted(missed)


async def show_deliveries(daemon: Daemon, receiver: Receiver) -> bool:
    """What the program that takes webhooks got; whether it was everything, and nothing forged."""
    sql = "SELECT count(*), count(due_us) FROM deliveries WHERE target = ?"
    deadline = asyncio.get_running_loop().time() + TOLD_SECONDS
    heading("who was told of it")
    async with waiting("webhooks are delivered"):
        while (counted := daemon.query(sql, TARGET)[0])[1]:
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.05)
    events, waiting_still = counted
    is_good = not waiting_still and len(receiver.ids) == events > 0 and not receiver.forged
    words = "each signed" if is_good else f"{waiting_still} wait, {receiver.forged} not signed"
    say(f"  {len(receiver.ids)} of {events} events delivered by webhook, {words}")
    return is_good


async def stay_up(rig: Rig, daemon: Daemon, page: landing.LandingPage) -> None:
    """The addresses of both pages and a login; calls until Ctrl-C."""
    token = await asyncio.to_thread(daemon.run, "token", "add", "demo", "--scope", "admin")
    heading("now look at it")
    say(f"  page    http://{daemon.admin}/")
    say(f"  token   {token.strip()}")
    heading("and be a visitor: say yes there, and see the number change")
    page.can_call = True
    for tags in (TAGS, {}):
        say(f"  {page.address(**tags)}")
    say("  Calls go on coming, one every few seconds. Ctrl-C ends it all.")
    await keep_calling(rig, page)


async def demo(*, once: bool) -> int:
    """Exit code."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    node = AsteriskNode(new_folder("demo"), phones=PHONES, carriers=CARRIERS, system_name="demo")
    daemon = Daemon(node, name="demo", records=True)
    receiver = Receiver(node.folder)
    page = landing.LandingPage(daemon.public, site=SITE, number=SITE_NUMBER, printed=PRINTED, national=NATIONAL)
    last = ""
    code = 1
    try:
        await start(node, daemon, receiver)
        await page.open()
        async with Rig(node) as rig, contextlib.aclosing(page), contextlib.aclosing(receiver):
            heading("calls: number, source, what happens, outcome")
            good = await place_all(rig, daemon, page)
            is_even = await show_result(daemon)
            is_told = await show_tickets(daemon) and await show_deliveries(daemon, receiver)
            last = f"{good} of {len(CALLS)} calls as expected"
            code = 0 if good == len(CALLS) and is_even and is_told else 1
            if not once:
                say(f"  {last}")
                await stay_up(rig, daemon, page)
    except asyncio.CancelledError:
        # Ctrl-C, or SIGTERM. After the calls that is how it ends.
        if not last:
            raise
    except RuntimeError:
        # Ctrl-C reaches the phones too, and one of them may be missed before we are told.
        if not task.cancelling():
            raise
        raise asyncio.CancelledError from None
    finally:
        # Without an await: a cancellation that is under way would cut it off.
        daemon.stop()
        node.close()
        clear(node.folder)
    say(last)
    return code


def clear(folder: Path) -> None:
    """Remove it; a speech program whose daemon was just killed may still write into it for a moment."""
    deadline = time.monotonic() + CLEAR_SECONDS
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.05)


async def until_stopped(*, once: bool) -> int:
    """The demo. Ctrl-C reaches every program in the terminal, so a phone may be gone before we are told to stop."""
    try:
        return await demo(once=once)
    except (RuntimeError, OSError):
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError from None
        raise


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--once", action="store_true", help="end after the calls; exit code 1 unless all are as expected"
    )
    options = parser.parse_args()
    try:
        return asyncio.run(until_stopped(once=options.once))
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("\nstopped before the calls were through")
        return 130
    except (RuntimeError, OSError) as error:
        sys.stderr.write(f"the demo cannot go on: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())

"""Recordings on the page, in a real browser: what is fetched and when, keys and clicks, and what cannot be heard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, Response, expect

from gateway.store import audit, receipts, recordings, signatures
from gateway.web import parts
from tests.web import material, sounds
from tests.web.browser import CONTRAST, TOO_WIDE, Opened, Watched
from tests.web.listener import Listener
from tests.web.test_receipts import SIGNER, signed

CALL_ID = "11111111-2222-4333-8444-555555555555"
GRANTED = {
    "region": "RU",
    "mode": "opt_in",
    "result": "granted",
    "key": "1",
    "prompt_id": "consent_opt_in.ru",
    "prompt_version": "0123456789abcdef0123456789abcdef",
    "early_media": False,
    "announcement_in_recording": False,
    "at": "2026-11-21T11:29:58.000Z",
}
LISTEN = ("calls:read", "live:read", "recordings:listen")


@pytest_asyncio.fixture(loop_scope="module")
async def vault(listener: Listener, tmp_path: Path) -> sounds.Vault:
    await listener.store_calls([material.record(call_id=CALL_ID, recording_consent=GRANTED)])
    return sounds.Vault(listener, tmp_path)


class Sound:
    """What of the sound went over the wire."""

    def __init__(self, page: Page) -> None:
        self.answers: list[Response] = []
        page.on("response", lambda answer: self.answers.append(answer) if "/audio" in answer.url else None)

    @property
    def starts(self) -> list[int]:
        """Where the ranges began that were sent."""
        ranges = [answer.headers.get("content-range", "") for answer in self.answers if answer.status == 206]
        return [int(text.removeprefix("bytes ").partition("-")[0]) for text in ranges]


async def show(watched: Watched, *scopes: str) -> Sound:
    """Log in and open the call's page."""
    await watched.log_in(*(scopes or LISTEN))
    sound = Sound(watched.page)
    await watched.page.goto(f"{watched.listener.url}/calls/{CALL_ID}")
    return sound


async def listens(listener: Listener) -> list[str]:
    async with listener.database.read() as connection:
        return [entry.action for entry in await audit.entries(connection)]


async def now(page: Page) -> float:
    """Position in seconds, as a screen reader hears it."""
    return float(await page.locator(".player-wave").get_attribute("aria-valuenow") or "-1")


async def test_nothing_is_heard_before_play_and_then_once(
    opened: Opened, listener: Listener, vault: sounds.Vault
) -> None:
    """R44: looking is no listen; however many ranges a player asks for, it is one."""
    await vault.put(CALL_ID)
    async with opened(listener) as watched:
        page = watched.page
        sound = await show(watched)
        await expect(page.locator(".wave .wave-caller")).to_have_count(2)
        await expect(page.locator(".wave .wave-agent")).to_have_count(2)
        assert sound.answers == [] and await listens(listener) == []

        play = page.get_by_role("button", name="Play")
        await play.click()
        await expect(page.get_by_role("button", name="Pause")).to_be_visible()
        await expect(page.locator(".player-now")).to_have_text("0:01", timeout=15_000)
        assert sound.starts == [0]

        await page.locator(".player-wave").click(position={"x": 300, "y": 20})
        width = (await page.locator(".player-wave").bounding_box() or {"width": 0})["width"]
        assert abs(await now(page) - 300 / width * sounds.SECONDS) <= 2
        await page.get_by_role("button", name="Pause").click()
        await expect(play).to_be_visible()
        assert await listens(listener) == ["recording.listened"]


async def test_seeking_asks_for_a_range_and_not_for_the_whole(
    opened: Opened, listener: Listener, vault: sounds.Vault
) -> None:
    """Before play a click chooses where it begins; what is played is fetched from there, and is one listen."""
    one = await vault.put(CALL_ID, minutes=90)
    async with opened(listener) as watched:
        page = watched.page
        sound = await show(watched)
        box = await page.locator(".player-wave").bounding_box()
        assert box is not None
        await page.locator(".player-wave").click(position={"x": box["width"] * 2 / 3, "y": 20})
        chosen = await now(page)
        assert abs(chosen - 3_600) < 15
        assert sound.answers == []
        await page.get_by_role("button", name="Play").click()
        await page.wait_for_function(
            "(from) => Number(document.querySelector('.player-wave').ariaValueNow) > from", arg=chosen
        )
        await page.get_by_role("button", name="Pause").click()
        # The beginning tells the form and the length; then comes the place.
        begun, *places = sound.starts
        assert begun == 0
        assert any(abs(start / one.audio_bytes - 2 / 3) < 0.02 for start in places)
        assert await listens(listener) == ["recording.listened"]


async def test_the_keyboard_does_all(opened: Opened, listener: Listener, vault: sounds.Vault) -> None:
    await vault.put(CALL_ID)
    async with opened(listener) as watched:
        page = watched.page
        await show(watched)
        slider = page.get_by_role("slider", name="Position in the talk")
        await slider.focus()
        for key, seconds in (
            ("ArrowRight", 5), ("ArrowUp", 10), ("ArrowLeft", 5), ("PageUp", 35), ("End", 60), ("ArrowRight", 60),
            ("PageDown", 30), ("Home", 0), ("ArrowLeft", 0),
        ):  # fmt: skip
            await page.keyboard.press(key)
            assert await now(page) == seconds
        await expect(slider).to_have_attribute("aria-valuetext", "0:00 of 1:00")
        await page.keyboard.press("Space")
        await expect(page.get_by_role("button", name="Pause")).to_be_visible()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Play")).to_be_visible()
        rate = page.get_by_role("button", name="Speed")
        for text in ("1.25×", "1.5×", "2×", "1×"):
            await rate.click()
            await expect(rate).to_have_text(text)


async def test_it_plays_on_in_an_unfolded_row_while_calls_come_in(
    opened: Opened, listener: Listener, vault: sounds.Vault
) -> None:
    """The list is redrawn around it; sound and focus stay. Folding it away ends the sound."""
    await vault.put(CALL_ID)
    async with opened(listener) as watched:
        page = watched.page
        await watched.log_in(*LISTEN)
        await expect(page.locator(f"tr[data-call='{CALL_ID}'] .recorded")).to_have_attribute("title", "Recorded")
        await page.locator(f"[data-open='{CALL_ID}']").click()
        await page.get_by_role("button", name="Play").click()
        await expect(page.locator(".player-now")).not_to_have_text("0:00", timeout=15_000)
        await page.locator(".player-wave").focus()
        newer = material.record(started_at=listener.clock.now, call_id="22222222-2222-4333-8444-555555555555")
        await listener.store_calls([newer])
        listener.board.publish(newer)
        await expect(page.locator(f"tr[data-call='{newer['call_id']}']")).to_be_visible()
        await expect(page.get_by_role("button", name="Pause")).to_be_visible()
        await expect(page.locator(".player-wave")).to_be_focused()
        player = await page.locator("sound-player").element_handle()
        assert player is not None
        await page.locator(f"[data-open='{CALL_ID}']").click()
        await page.wait_for_function("(player) => player.audio.paused", arg=player)


async def test_only_one_plays_at_a_time(opened: Opened, listener: Listener, vault: sounds.Vault) -> None:
    """A talk and a message of one call; the message has one side and says what it is."""
    await vault.put(CALL_ID)
    await vault.put(CALL_ID, is_message=True)
    async with opened(listener) as watched:
        page = watched.page
        await show(watched)
        await expect(page.locator(".recording-kind")).to_have_text(["Talk", "Voicemail message"])
        message = page.locator("sound-player.is-single")
        await expect(message.locator(".wave-caller")).to_have_count(2)
        await expect(message.locator(".wave-agent")).to_have_count(0)
        talk = page.locator("sound-player:not(.is-single)")
        await talk.locator(".player-play").click()
        await expect(talk).to_have_class("player is-playing")
        await message.locator(".player-play").click()
        await expect(message).to_have_class("player is-single is-playing")
        await expect(talk).to_have_class("player")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (recordings.State.REFUSED, "Locked away"),
        (recordings.State.CONDEMNED, "To be deleted"),
        (recordings.State.SHREDDED, "Deleted"),
    ],
)
async def test_what_must_not_be_heard_has_no_player(
    opened: Opened, listener: Listener, vault: sounds.Vault, state: recordings.State, words: str
) -> None:
    await vault.put(CALL_ID, state=state)
    async with opened(listener) as watched:
        await show(watched, "admin")
        await expect(watched.page.locator(".recording .pill")).to_have_text(words)
        assert await watched.page.locator("sound-player, audio, .player-download").count() == 0
        assert await watched.page.locator("a[href*='/audio']").count() == 0


async def test_scopes_decide_what_is_offered(opened: Opened, listener: Listener, vault: sounds.Vault) -> None:
    one = await vault.put(CALL_ID)
    async with opened(listener) as watched:
        await show(watched, "calls:read", "live:read")
        await expect(watched.page.locator(".recording")).to_contain_text("recordings:listen")
        assert await watched.page.locator("sound-player").count() == 0
    async with opened(listener) as watched:
        await show(watched)
        await expect(watched.page.locator("sound-player")).to_be_visible()
        assert await watched.page.locator(".player-download").count() == 0
    async with opened(listener, accept_downloads=True) as watched:
        page = watched.page
        await show(watched, *LISTEN, "recordings:download")
        async with page.expect_download() as started:
            await page.get_by_role("link", name="Download the talk as MP3").click()
        kept = await (await started.value).path()
        assert kept.stat().st_size == one.audio_bytes
    assert await listens(listener) == ["recording.downloaded"]


async def test_what_is_gone_meanwhile_is_told_in_words(opened: Opened, listener: Listener, vault: sounds.Vault) -> None:
    one = await vault.put(CALL_ID)
    async with opened(listener) as watched:
        page = watched.page
        await show(watched)
        await expect(page.locator(".wave-caller")).to_have_count(2)
        async with listener.database.begin() as tx:
            await recordings.condemn(tx, [one.recording_id], why="old", now_us=1)
        await page.get_by_role("button", name="Play").click()
        await expect(page.locator(".player-fault")).to_have_text(
            "It cannot be played: The recording cannot be heard any more."
        )
        await expect(page.get_by_role("button", name="Play")).to_be_visible()
        watched.faults = [fault for fault in watched.faults if "status of 410" not in fault]


async def test_consent_stands_there_in_words_with_its_receipt(
    opened: Opened, listener: Listener, vault: sounds.Vault
) -> None:
    """N3: what the caller was told, said, when, and the proof."""
    await listener.store_calls(
        [
            material.record(
                call_id=CALL_ID,
                recording_consent=GRANTED,
                pauses=[{"from": "2026-11-21T11:30:20.000Z", "to": "2026-11-21T11:30:41.500Z"}],
            )
        ]
    )
    await vault.put(CALL_ID)
    async with listener.database.begin() as tx:
        await receipts.learn_key(tx, SIGNER, node="main", now_us=1)
        await receipts.keep(tx, [signed()])
        for action, after in (("recording.paused", 50), ("recording.resumed", 55), ("recording.paused", 70)):
            await audit.append(
                tx, at_us=parts.micros(material.NOW) + after * 1_000_000, actor="token:crm", action=action,
                subject=f"call:{CALL_ID}",
            )  # fmt: skip
    async with opened(listener, accept_downloads=True) as watched:
        page = watched.page
        await show(watched)
        consent = page.locator(".consent")
        await expect(consent).to_contain_text("Consent given")
        await expect(consent).to_contain_text("The caller was asked, and pressed 1 to agree.")
        await expect(consent.locator("li")).to_have_text(
            [
                "Mode opt in",
                "Region RU",
                "Asked at 14:29:58 after answer",
                "Prompt consent_opt_in.ru 01234567",
                "Paused 14:30:20 to 14:30:41 (by agent's key)",
                "Paused 14:30:50 to 14:30:55 (by API)",
                "Paused 14:31:10 to the end (by API)",
                f"Receipt of the talk, signed 14:30:00 by key {SIGNER.key_id}",
            ]
        )
        async with page.expect_download() as started:
            await consent.get_by_role("link", name="of the talk").click()
        kept = await (await started.value).path()
        assert signatures.ALGORITHM in kept.read_text()


async def test_hostile_analysis_and_names_stay_text(opened: Opened, listener: Listener, vault: sounds.Vault) -> None:
    """An analysis is written by a program outside, a prompt's id by an operator, a name by a stranger."""
    evil = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    hostile = {**GRANTED, "region": evil, "prompt_id": evil, "key": evil}
    await listener.store_calls([material.record(call_id=CALL_ID, recording_consent=hostile, name=evil)])
    one = await vault.put(CALL_ID)
    analysis = json.dumps({"summary": evil, "</pre><script>": [evil, None, -1.5, {"deep": evil}]})
    async with listener.database.begin() as tx:
        assert await recordings.set_analysis(tx, one.recording_id, analysis, now_us=1)
    async with opened(listener, viewport={"width": 390, "height": 844}) as watched:
        page = watched.page
        await show(watched)
        await page.locator(".recording summary").click()
        await expect(page.locator(".recording pre")).to_contain_text("onerror=")
        await expect(page.locator(".consent")).to_contain_text("onerror=")
        assert await page.locator("img[src=x], main script").count() == 0
        assert "owned" not in await page.title()
        assert await page.evaluate(TOO_WIDE) == []


UP: dict[str, Any] = material.record(call_id=CALL_ID, is_up=True, recording_consent=GRANTED)


async def test_pause_and_resume_on_the_live_page(opened: Opened, listener: Listener) -> None:
    """R17: the mark, the button, and what the button did, without a reload."""
    asked: list[bool] = []

    async def mute(unique_id: str, is_muted: bool) -> None:
        asked.append(is_muted)

    listener.mute_recording = mute
    await listener.store_calls([UP])
    listener.board.publish(UP)
    async with opened(listener) as watched:
        page = watched.page
        await watched.log_in("calls:read", "live:read", "recordings:pause")
        mark = page.locator(".card-recording")
        await expect(mark).to_have_attribute("data-recording", "recording")
        await page.get_by_role("button", name="Pause the recording of the call from +7 495 123-45-67").click()
        await expect(mark).to_contain_text("Recording paused")
        assert asked == [True]
        await page.get_by_role("button", name="Resume the recording").click()
        await expect(mark).to_have_attribute("data-recording", "recording")
        assert asked[-1] is False
        by_key = {**UP, "pauses": [{"from": "2026-11-21T11:30:20.000Z", "to": None}]}
        listener.board.publish(by_key)
        await expect(mark).to_contain_text("Paused by the agent")
        assert await mark.get_by_role("button").count() == 0
    assert await listens(listener) == ["recording.paused", "recording.resumed"]


async def test_a_pause_that_failed_is_said_and_the_mark_stays(opened: Opened, listener: Listener) -> None:
    async def mute(unique_id: str, is_muted: bool) -> None:
        raise ConnectionError("the manager session is down")

    listener.mute_recording = mute
    await listener.store_calls([UP])
    listener.board.publish(UP)
    async with opened(listener) as watched:
        page = watched.page
        await watched.log_in("calls:read", "live:read", "recordings:pause")
        await page.get_by_role("button", name="Pause the recording").click()
        await expect(page.locator("#toast")).to_have_text("The recording was not paused: the manager session is down")
        await expect(page.locator(".card-recording")).to_have_attribute("data-recording", "recording")
        await expect(page.get_by_role("button", name="Pause the recording")).to_be_enabled()
        watched.faults = [fault for fault in watched.faults if "status of 503" not in fault]


async def test_without_the_scope_there_is_a_mark_and_no_button(opened: Opened, listener: Listener) -> None:
    listener.board.publish(UP)
    async with opened(listener) as watched:
        await watched.log_in("calls:read", "live:read")
        await expect(watched.page.locator(".card-recording")).to_contain_text("Recording")
        assert await watched.page.locator("[data-pause]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_player_has_names_contrast_and_fits_a_phone(
    opened: Opened, listener: Listener, vault: sounds.Vault, scheme: Any
) -> None:
    await vault.put(CALL_ID)
    await vault.put(CALL_ID, is_message=True)
    await vault.put(CALL_ID, state=recordings.State.REFUSED)
    listener.board.publish(UP)
    async with opened(
        listener, color_scheme=scheme, reduced_motion="reduce", viewport={"width": 360, "height": 740}
    ) as watched:
        page = watched.page
        await watched.log_in()
        assert await page.evaluate(CONTRAST) == []
        await page.goto(f"{listener.url}/calls/{CALL_ID}")
        await expect(page.locator(".wave-caller").first).to_be_attached()
        assert await page.evaluate(TOO_WIDE) == []
        assert await page.evaluate(CONTRAST) == []
        small = await page.evaluate(
            "[...document.querySelectorAll('main button, main a.icon-button')].filter((e) => e.checkVisibility() &&"
            " e.getBoundingClientRect().height < 24).map((e) => e.className)"
        )
        assert small == []

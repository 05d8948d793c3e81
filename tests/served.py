"""Journals of calls with services (consent, whisper, acceptance, pause, message), as `dialplans/services.conf` makes
them: written line by line, so that the row codec is in it too. For calls without services see `tests/journals.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import quote

from gateway.core import calls
from gateway.core.rows import Row
from tests import journals

BEGIN_US = 1_795_300_500_000_000
CALL_ID = "7a1c2f7e-0b1d-4c3e-9f55-3a6d2c1b0e9f"
VERSION = "0123456789abcdef0123456789abcdef"
CALLER_NUMBER = "74951112233"
PROMPTS = "/var/lib/dialmark/prompts"
CONSENT_PROMPT = f"{PROMPTS}/consent_opt_in-ru-1111111111111111"
WHISPER = f"{PROMPTS}/whisper-ru-2222222222222222"
ACCEPT = f"{PROMPTS}/accept-ru-3333333333333333"
TOLD = f"{PROMPTS}/agent_told-ru-4444444444444444"


class Journal:
    """Rows of one call. Every method writes what the dialplan and Asterisk would, `at` seconds after the call began."""

    def __init__(self, number: int = 0, *, begin_us: int = BEGIN_US, cid: str = CALLER_NUMBER) -> None:
        self._begin_us = begin_us + number * 1_000_000_000
        self.call_id = f"{number:08x}{CALL_ID[8:]}"
        self.unique_id = f"node1-{self._begin_us // 1_000_000}.{number * 10}"
        self.channel = f"PJSIP/carrier-a-{number:08x}"
        self._lines: list[tuple[int, str]] = []
        self._legs: dict[str, tuple[str, str]] = {}
        self._made = 0
        self.cid = cid

    def begin(self) -> Journal:
        self._row(0.0, "CHAN_START", context="dialmark-from-carrier-a")
        return self.mark(
            0.001, f"DM_IN,v=1&i={self.call_id}&did=74990000001&cid={self.cid}&raw={self.cid}&name=Client&tr=carrier-a"
        )

    def mark(self, at: float, said: str, leg: str | None = None) -> Journal:
        """A user event of ours, `NAME,payload` with the call's id put in front."""
        event, _, payload = said.partition(",")
        extra = payload if payload.startswith("v=") else f"i={self.call_id}&{payload}"
        return self._row(
            at, "USER_DEFINED", event, leg=leg, application="CELGenUserEvent", extra=f'{{"extra":"{extra}"}}'
        )

    def file(self, start: float, end: float | None, sound: str, leg: str | None = None) -> Journal:
        """A prompt; `end` None: it still plays."""
        extra = f'{{"sound":"{sound}","format":"ulaw","language":"ru"}}'
        self._row(start, "STREAM_BEGIN", "FILE_STREAM_BEGIN", leg=leg, application="Playback", extra=extra)
        return self if end is None else self._row(end, "STREAM_END", "FILE_STREAM_END", leg=leg, application="Playback")

    def music(self, start: float, end: float | None, kind: str = "ring") -> Journal:
        extra = f'{{"class":"{kind}"}}'
        self._row(start, "STREAM_BEGIN", "MOH_STREAM_BEGIN", application="Dial", extra=extra)
        return self if end is None else self._row(end, "STREAM_END", "MOH_STREAM_END", application="Dial")

    def answer(self, at: float) -> Journal:
        return self._row(at, "ANSWER", application="Answer")

    def monitor(self, at: float, application: str = "MixMonitor") -> Journal:
        return self._row(at, "APP_START", application=application)

    def step(self, at: float, number: int, *members: str, kind: str = "f", plan: bool = False) -> Journal:
        """`members` are `key:peer`; their channels begin at once."""
        named = "&src=agi&rev=7&rt=sales&agi=SUCCESS" if plan else ""
        self.mark(at, f"DM_STEP,s={number}&k={kind}&t=20&d={'|'.join(members)}{named}")
        for member in members:
            peer = member.partition(":")[2]
            self._made += 1
            order = self._made
            self._legs[peer] = (f"PJSIP/{peer}-{order:08x}", f"{self.unique_id}{order}")
            self._row(at + 0.002, "CHAN_START", leg=peer, context="from-internal")
        return self

    def picks_up(self, at: float, leg: str) -> Journal:
        return self._row(at, "ANSWER", leg=leg, application="AppDial")

    def bridge(self, start: float, end: float | None, leg: str) -> Journal:
        extra = '{"bridge_id":"9763f766-45f5-4cdf-bbc9-f48bb337e0f1","bridge_technology":"simple_bridge"}'
        for at, kind in ((start, "BRIDGE_ENTER"), (end, "BRIDGE_EXIT")):
            if at is not None:
                self._row(at, kind, leg=leg, application="AppDial", extra=extra)
                self._row(at + 0.0002, kind, application="Dial", extra=extra)
        return self

    def gone(
        self, at: float, leg: str | None = None, *, by: str | None = None, cause: int = 16, is_last: bool = True
    ) -> Journal:
        """A channel's end. `by`: caller, or a leg's peer; None = Asterisk itself. The caller's channel is the last one
        of the call, unless said otherwise: then `over` is still to come."""
        source = self.channel if by == "caller" else self._legs[by][0] if by else "dialplan/builtin"
        extra = f'{{"hangupcause":{cause},"hangupsource":"{source}","dialstatus":""}}'
        self._row(at, "HANGUP", leg=leg, extra=extra)
        self._row(at, "CHAN_END", leg=leg)
        return self if leg or not is_last else self.over(at)

    def over(self, at: float) -> Journal:
        """No channel of the call is left."""
        return self._row(at, "LINKEDID_END")

    def _row(
        self,
        at: float,
        kind: str,
        event: str = "",
        *,
        leg: str | None = None,
        context: str = "dialmark-act",
        application: str = "",
        extra: str = "",
    ) -> Journal:
        channel, unique_id = (self.channel, self.unique_id) if leg is None else self._legs[leg]
        at_us = self._begin_us + round(at * 1_000_000)
        fields = [f"{at_us // 1_000_000}.{at_us % 1_000_000:06d}", kind, event, channel, unique_id, self.unique_id]
        fields += [context, "", application, extra.replace('"', '""')]
        self._lines.append((at_us, ",".join(f'"{field}"' for field in fields)))
        return self

    @property
    def text(self) -> bytes:
        """As `cel_custom` writes it."""
        return "".join(f"{line}\n" for _, line in sorted(self._lines, key=lambda line: line[0])).encode()

    @property
    def rows(self) -> list[Row]:
        return journals.rows_of(self.text)

    def facts(self, closed: calls.Closing | None = None) -> calls.CallFacts:
        found = calls.fold(self.rows, closed=closed)
        assert found is not None
        return found


def consent_row(result: str = "granted", key: str = "1", mode: str = "opt_in") -> str:
    key = f"&k={quote(key, safe='')}" if key else "&k="
    return f"DM_CONSENT,m={mode}&g=DE&r={result}{key}&p=consent_opt_in.ru&v={VERSION}&e=&a=1"


def granted(number: int = 0, *, cid: str = CALLER_NUMBER) -> Journal:
    """Asked in 3 s, agreed; rings for 4 s, hears the whisper for 2 s, talks for 10 s; the agent hangs up."""
    call = Journal(number, cid=cid).begin().answer(0.01).file(0.02, 3.0, CONSENT_PROMPT)
    call.mark(3.1, consent_row()).monitor(3.11)
    call.step(3.12, 1, "anna:desk-1", plan=True).music(3.13, 9.2)
    call.picks_up(7.1, "desk-1").file(7.2, 9.1, WHISPER, leg="desk-1").file(9.1, 9.15, TOLD, leg="desk-1")
    call.bridge(9.2, 19.2, "desk-1")
    call.gone(19.21, "desk-1", by="desk-1")
    return call.gone(19.22, by="desk-1")


def paused(number: int = 1) -> Journal:
    """Talk of 10 s in which the agent's key stopped the recording for 3 s."""
    call = granted(number)
    call.monitor(11.0, "StopMixMonitor").mark(11.0, "DM_PAUSE,r=paused")
    return call.monitor(14.0).mark(14.0, "DM_PAUSE,r=resumed")


def refused(number: int = 2) -> Journal:
    call = Journal(number).begin().answer(0.01).file(0.02, 3.0, CONSENT_PROMPT).mark(3.1, consent_row("refused", "2"))
    call.step(3.12, 1, "anna:desk-1", plan=True).music(3.13, 7.2)
    call.picks_up(7.1, "desk-1").bridge(7.2, 9.2, "desk-1")
    call.gone(9.21, "desk-1", by="caller")
    return call.gone(9.22, by="caller")


def left_while_asked(number: int = 3) -> Journal:
    call = Journal(number).begin().answer(0.01).file(0.02, 1.5, CONSENT_PROMPT)
    call.mark(1.5, f"{consent_row('hung_up', '')}&src=agi&rev=7&rt=sales&agi=SUCCESS")
    return call.gone(1.51, by="caller")


def not_accepted(number: int = 4) -> Journal:
    """A mobile's voicemail answers and presses nothing, an agent hangs up in the whisper, a machine is heard, and then
    somebody presses 1."""
    call = Journal(number).begin()
    call.step(0.1, 1, "mobile:cell-1", plan=True)
    call.picks_up(2.0, "cell-1").file(2.1, 5.0, ACCEPT, leg="cell-1")
    call.mark(9.0, "DM_ACCEPT,s=1&r=timed_out", leg="cell-1").gone(9.1, "cell-1", cause=34)
    call.mark(9.2, "DM_MISS,s=1&st=ANSWER&hc=16&r=500&p=&x=")
    call.step(9.3, 2, "boris:desk-2").picks_up(10.0, "desk-2").file(10.1, 11.0, WHISPER, leg="desk-2")
    call.gone(11.0, "desk-2", by="desk-2").mark(11.1, "DM_MISS,s=2&st=ANSWER&hc=16&r=500&p=&x=")
    call.step(11.2, 3, "robot:cell-2").picks_up(12.0, "cell-2")
    call.mark(14.0, "DM_ACCEPT,s=3&r=machine&d=LONGGREETING-1500-1500", leg="cell-2").gone(14.1, "cell-2", cause=34)
    call.mark(14.2, "DM_MISS,s=3&st=ANSWER&hc=16&r=500&p=&x=")
    call.step(14.3, 4, "anna:desk-1", kind="r").picks_up(16.0, "desk-1").file(16.1, 17.0, WHISPER, leg="desk-1")
    call.file(17.0, 18.0, ACCEPT, leg="desk-1").mark(18.2, "DM_ACCEPT,s=4&r=accepted", leg="desk-1")
    call.answer(18.3).bridge(18.3, 28.3, "desk-1")
    call.gone(28.4, "desk-1", by="caller")
    return call.gone(28.41, by="caller")


def missed(number: int) -> Journal:
    """Two seconds of ringing that nobody took, up to DM_MISS."""
    call = Journal(number).begin().step(0.1, 1, "silent:ring", plan=True)
    call.gone(2.1, "ring", cause=0)
    return call.mark(2.2, "DM_MISS,s=1&st=NOANSWER&hc=0&r=50&p=&x=PJSIP/ring-00000001~180")


def message_left(number: int = 5, seconds: int = 12) -> Journal:
    """Nobody took it; the caller hears the notice and speaks."""
    call = missed(number).mark(2.3, "DM_ACT,a=exhausted").answer(2.4).file(2.5, 5.5, f"{PROMPTS}/leave_message-ru-5")
    call.mark(5.6, f"DM_CONSENT,w=message&m=announce&r=granted&p=leave_message.ru&v={VERSION}")
    call.mark(6.0 + seconds, f"DM_ACT,a=voicemail&n={seconds}")
    return call.gone(6.1 + seconds, by="caller")


def called_back(number: int = 6) -> Journal:
    call = missed(number).mark(2.3, "DM_ACT,a=exhausted").answer(2.4).file(2.5, 4.5, f"{PROMPTS}/callback_offer-ru-6")
    return call.mark(5.0, "DM_ACT,a=callback").gone(6.0)


def waited(number: int = 7) -> Journal:
    """Two rounds: in the second one the caller hears music and a word, and is taken."""
    call = missed(number).answer(2.3).file(2.4, 4.4, f"{PROMPTS}/wait-ru-7")
    call.step(4.5, 1, "silent:ring").music(4.5, 12.5, "default").gone(12.5, "ring", cause=0)
    call.mark(12.6, "DM_MISS,s=1&st=NOANSWER&hc=0&r=50&p=&x=PJSIP/ring-00000002~180")
    call.music(12.7, 20.0, "default").file(20.0, 22.0, f"{PROMPTS}/wait-ru-7")
    call.step(22.1, 2, "anna:desk-1").music(22.1, 25.1, "default").picks_up(25.0, "desk-1")
    call.bridge(25.1, 30.1, "desk-1").gone(30.2, "desk-1", by="desk-1")
    return call.gone(30.21, by="desk-1")


def left_while_waiting(number: int = 8) -> Journal:
    call = missed(number).answer(2.3).file(2.4, 4.4, f"{PROMPTS}/wait-ru-7")
    call.step(4.5, 1, "silent:ring").music(4.5, 8.0, "default").gone(8.0, "ring", by="caller", cause=0)
    return call.gone(8.0, by="caller")


STORIES: dict[str, Callable[[], Journal]] = {
    maker.__name__: maker
    for maker in (
        *(granted, paused, refused, left_while_asked, not_accepted),
        *(message_left, called_back, waited, left_while_waiting),
    )
}


def text_of(names: Sequence[str]) -> bytes:
    """The journal of several calls, by time."""
    lines = [line for name in names for line in STORIES[name]().text.splitlines(keepends=True)]
    return b"".join(sorted(lines))

"""The rows of one call, sorted by what they tell: channels, steps of the plan, bridges, prompts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType

from gateway.core import grouping, rating
from gateway.core.rows import EventKind, Row

_CHAN_START = EventKind.CHAN_START.value
_ANSWER = EventKind.ANSWER.value
_ENTER = EventKind.BRIDGE_ENTER.value
_EXIT = EventKind.BRIDGE_EXIT.value
_HANGUP = EventKind.HANGUP.value
_CHAN_END = EventKind.CHAN_END.value
_LINKED_END = EventKind.LINKEDID_END.value
_USER = EventKind.USER_DEFINED.value
_STREAM_BEGIN = EventKind.STREAM_BEGIN.value
_STREAM_END = EventKind.STREAM_END.value

_TRUNK_CONTEXT = "dialmark-from-"
_OUTBOUND_CONTEXT = "dialmark-out"
_MUSIC = "MOH_"
_FILE = "FILE_"
RING_CLASS = "ring"
"""Music class in which an answered caller hears ringing (asterisk/musiconhold.conf)."""
_PAUSED, _RESUMED = "paused", "resumed"
_NO_WHISPER = re.compile(r"(?:.*/)?(?:beep|(?:accept|agent_told|rate_[a-z_]+)-[^/]*)")
"""Files on the leg of who answered that are no whisper: what asks for a key, and "this call is recorded"."""
_OF_CALLED = frozenset({"DM_CONSENT", "DM_PAUSE"})
_SECONDS = re.compile(r"\d{1,5}")
_NOTHING: Mapping[str, str] = MappingProxyType({})
_SECOND = 1_000_000


class Played(IntEnum):
    """What a stream is to the caller."""

    FILE = 0
    MUSIC = 1
    RING = 2


class Channel:
    """One channel. Times are microseconds, None = no such row."""

    __slots__ = (
        "accepted",
        "answered_at_us",
        "asked_at_us",
        "cause",
        "ended_at_us",
        "heard_whisper",
        "is_local",
        "machine",
        "name",
        "source",
        "started_at_us",
        "unique_id",
    )

    def __init__(self, unique_id: str, name: str) -> None:
        self.unique_id = unique_id
        self.name = name
        self.is_local = name.startswith("Local/")
        self.started_at_us: int | None = None
        self.answered_at_us: int | None = None
        self.ended_at_us: int | None = None
        self.cause: int | None = None
        """Q.850 cause of its HANGUP."""
        self.source = ""
        """Name of the channel that hung up, as Asterisk saw it."""
        self.heard_whisper = False
        """A file was played to it that is not the acceptance prompt."""
        self.accepted: bool | None = None
        """By DM_ACCEPT; None = nobody asked."""
        self.machine: bool | None = None
        """True: Asterisk took what answered for a machine, by its sound. None = it did not say so."""
        self.asked_at_us: int | None = None
        """When the call was over and who answered began to be asked how it was."""

    @property
    def ended_itself(self) -> bool:
        """Its far side ended it: only then does the cause speak of the destination (tried: a leg that is taken down
        with the caller bears whatever cause the caller's channel had)."""
        return self.source == self.name

    @property
    def peer(self) -> str:
        return peer_of(self.name)


class Step:
    """One DM_STEP, with the DM_MISS that ended it untaken, if any."""

    __slots__ = ("at_us", "kind", "members", "miss", "miss_at_us", "number", "until_us")

    def __init__(self, at_us: int, data: Mapping[str, str]) -> None:
        self.at_us = at_us
        self.number = int(data["s"]) if data.get("s", "").isdecimal() else 0
        self.kind = "reserve" if data.get("k") == "r" else "forward"
        self.members = tuple(_member(token) for token in data.get("d", "").split("|") if token)
        self.miss: Mapping[str, str] | None = None
        self.miss_at_us: int | None = None
        self.until_us: int | None = None
        """When the next step began."""


class Story:
    """What `read` found. `entry` is the payload of DM_IN or DM_OUT, `plan` of the first row that names the plan."""

    __slots__ = (
        "_inbound",
        "_streams",
        "_streams_open",
        "action",
        "all_channels_ended",
        "bridge_rows",
        "by_name",
        "caller_names",
        "channels",
        "consent",
        "consent_at_us",
        "entry",
        "exhausted_us",
        "given_id",
        "inbound_ended_at_us",
        "is_outbound",
        "last_row_at_us",
        "linked_id",
        "message_at_us",
        "message_consent",
        "message_consent_at_us",
        "message_seconds",
        "pauses",
        "plan",
        "plan_at_us",
        "rated",
        "result_key",
        "started_at_us",
        "steps",
        "trunk_of_context",
        "unique_id",
        "wants_callback",
        "was_handed_back",
    )

    def __init__(self, inbound: Channel, first: Row, caller_names: frozenset[str], last_row_at_us: int) -> None:
        self._inbound = inbound
        self._streams: list[tuple[Played, bool, int, int]] = []
        self._streams_open: list[tuple[Played, bool, int]] = []
        self.unique_id = inbound.unique_id
        self.linked_id = first.linked_id
        self.started_at_us = first.at_us
        self.last_row_at_us = last_row_at_us
        self.caller_names = caller_names
        self.inbound_ended_at_us = inbound.ended_at_us
        self.is_outbound = first.context.startswith(_OUTBOUND_CONTEXT)
        self.trunk_of_context = first.context.removeprefix(_TRUNK_CONTEXT) or None
        if self.trunk_of_context == first.context:
            self.trunk_of_context = None
        self.given_id = ""
        self.entry = _NOTHING
        self.plan = _NOTHING
        self.plan_at_us: int | None = None
        self.action = ""
        self.exhausted_us: tuple[int, ...] = ()
        """When the steps were through; again after each further round."""
        self.was_handed_back = False
        self.consent = _NOTHING
        self.consent_at_us: int | None = None
        self.message_consent = _NOTHING
        self.message_consent_at_us: int | None = None
        self.message_seconds = 0
        """Of the message that the caller left."""
        self.message_at_us = 0
        self.wants_callback = False
        self.pauses: tuple[tuple[int, int | None], ...] = ()
        """When the agent's key stopped the recording, and when it went on; None = never."""
        self.rated: tuple[rating.Rated, ...] = ()
        self.result_key: str | None = None
        """What the agent keyed in after a call-back."""
        self.steps: list[Step] = []
        self.channels: list[Channel] = []
        self.by_name: dict[str, Channel] = {}
        self.bridge_rows: list[Row] = []
        self.all_channels_ended = False

    @property
    def inbound_name(self) -> str:
        return self._inbound.name

    @property
    def inbound_source(self) -> str:
        return self._inbound.source

    @property
    def is_exhausted(self) -> bool:
        """The steps are through, and no further round of them has begun."""
        return bool(self.exhausted_us) and (not self.steps or self.exhausted_us[-1] >= self.steps[-1].at_us)

    @property
    def first_leg_at_us(self) -> int | None:
        return next((channel.started_at_us for channel in self.channels if channel.started_at_us is not None), None)

    def source_of(self, name: str) -> str | None:
        """Who hung up the channel of that name; None if its end was not seen, or came after the call's: who is asked
        how it was hangs up then."""
        channel = self.by_name.get(name)
        if channel is None or channel.ended_at_us is None or channel.asked_at_us is not None:
            return None
        return channel.source

    def prompts(self, until_us: int) -> list[tuple[int, int]]:
        """Files played on the caller's channel; one that still plays ends at `until_us`."""
        return self._played(until_us, Played.FILE)

    def music(self, until_us: int) -> list[tuple[int, int]]:
        """Music to the caller: on their channel or on the Local channel that stands for them in a queue. The class that
        only sounds like ringing is none."""
        return self._played(until_us, Played.MUSIC)

    def heard(self, until_us: int) -> list[tuple[int, int]]:
        """When a waiting caller did not sit in silence: prompts, ringing (from the first step of a round to its end, or
        by the ring class), music, and their own message."""
        ends = self.exhausted_us
        spans = [
            (step.at_us, until_us if not ends else next((at for at in ends if at >= step.at_us), until_us))
            for step in self.steps
        ]
        if self.message_seconds:
            spans.append((self.message_at_us - self.message_seconds * _SECOND, self.message_at_us))
        if self._streams or self._streams_open:
            spans += self._played(until_us, None)
        return spans

    def _played(self, until_us: int, wanted: Played | None) -> list[tuple[int, int]]:
        """Streams that the caller heard, of one kind or all. Files count on the caller's own channel only."""
        if not self._streams and not self._streams_open:
            return []
        streams = [*self._streams, *((what, caller, start, until_us) for what, caller, start in self._streams_open)]
        return [
            (start, end)
            for what, caller, start, end in streams
            if (wanted is None or what is wanted) and (caller or what is not Played.FILE)
        ]

    def take_mark(self, row: Row) -> None:
        """A user event of ours on the caller's channel."""
        data = row.data
        event = row.user_event
        self.given_id = self.given_id or data.get("i", "")
        if event in ("DM_IN", "DM_OUT"):
            self.entry = self.entry or data
            self.is_outbound = self.is_outbound or event == "DM_OUT"
        elif event == "DM_STEP":
            if self.steps:
                self.steps[-1].until_us = row.at_us
            self.steps.append(Step(row.at_us, data))
            self._take_plan(row)
        elif event == "DM_MISS":
            self._take_miss(row)
        elif event == "DM_ACT":
            self._take_action(row)
        elif event == "DM_BACK":
            self.was_handed_back = True
        elif event == "DM_CONSENT":
            self._take_consent(row)
        elif event == "DM_PAUSE":
            self._take_pause(row)
        elif event == "DM_RESULT":
            self.result_key = self.result_key or data.get("k")

    def take_rating(self, row: Row) -> None:
        """DM_RATE, on the caller's channel or on that of who answered."""
        channel = self.by_name.get(row.channel)
        if channel is not None and channel.asked_at_us is None:
            channel.asked_at_us = row.at_us
        answer = rating.given(row.data, row.at_us)
        if answer is not None:
            self.rated += (answer,)

    def take_streams(self, rows: Sequence[Row]) -> None:
        """STREAM_BEGIN and STREAM_END rows by time."""
        playing: dict[tuple[str, str], tuple[Played, bool, int]] = {}
        for row in rows:
            is_music = row.user_event.startswith(_MUSIC)
            if not is_music and not row.user_event.startswith(_FILE):
                continue
            is_caller = row.unique_id == self.unique_id
            if is_music and not is_caller and not row.channel.startswith("Local/"):
                continue
            key = (row.unique_id, row.user_event[:4])
            began = playing.pop(key, None)
            if began is not None:
                self._streams.append((began[0], began[1], began[2], row.at_us))
            if row.kind == _STREAM_BEGIN:
                what = Played.FILE
                if is_music:
                    what = Played.RING if row.data.get("class") == RING_CLASS else Played.MUSIC
                playing[key] = (what, is_caller, row.at_us)
        self._streams_open = list(playing.values())

    def _take_plan(self, row: Row) -> None:
        if self.plan_at_us is None:
            self.plan_at_us = row.at_us
        if not self.plan and "src" in row.data:
            self.plan = row.data

    def _take_consent(self, row: Row) -> None:
        if "src" in row.data:
            # A caller who hangs up while being asked leaves no other row that names the plan.
            self._take_plan(row)
        # A queue that sends its caller round asks nobody twice: what was said first gates the recording.
        if row.data.get("w") == "message":
            if self.message_consent_at_us is None:
                self.message_consent, self.message_consent_at_us = row.data, row.at_us
        elif self.consent_at_us is None:
            self.consent, self.consent_at_us = row.data, row.at_us

    def _take_pause(self, row: Row) -> None:
        is_paused = bool(self.pauses) and self.pauses[-1][1] is None
        said = row.data.get("r")
        if said == _PAUSED and not is_paused:
            self.pauses += ((row.at_us, None),)
        elif said == _RESUMED and is_paused:
            self.pauses = (*self.pauses[:-1], (self.pauses[-1][0], row.at_us))

    def _take_miss(self, row: Row) -> None:
        number = row.data.get("s", "")
        for step in reversed(self.steps):
            if str(step.number) == number and step.miss is None:
                step.miss = row.data
                step.miss_at_us = row.at_us
                return

    def _take_action(self, row: Row) -> None:
        action = row.data.get("a", "")
        if action == "exhausted":
            self.exhausted_us += (row.at_us,)
        elif action == "callback":
            self.wants_callback = True
        elif action == "voicemail":
            seconds = row.data.get("n", "")
            self.message_seconds = max(self.message_seconds, int(seconds) if _SECONDS.fullmatch(seconds) else 0)
            self.message_at_us = row.at_us
        elif action != "challenge_passed":
            self.action = action
        self._take_plan(row)


def read(rows: Sequence[Row]) -> Story | None:
    """Sort `rows` (by time, one group) by what they tell; None when there is no call of ours among them."""
    channels: dict[str, Channel] = {}
    marks: list[Row] = []
    bridge_rows: list[Row] = []
    streams: list[Row] = []
    ended_linked_ids: list[Row] = []
    for row in rows:
        at_us, kind, _, name, unique_id, *_ = row
        channel = channels.get(unique_id)
        if channel is None:
            channel = channels[unique_id] = Channel(unique_id, name)
        if kind in (_ENTER, _EXIT):
            bridge_rows.append(row)
        elif kind == _HANGUP:
            _take_hangup(channel, row)
            if bridge_rows:
                bridge_rows.append(row)
        elif kind == _USER:
            if row.user_event == grouping.CALLEE_EVENT:
                _take_answer(channel, row)
            elif row.user_event.startswith(grouping.OUR_EVENTS):
                marks.append(row)
        elif kind == _CHAN_START:
            if channel.started_at_us is None:
                channel.started_at_us = at_us
        elif kind == _CHAN_END:
            if channel.ended_at_us is None:
                channel.ended_at_us = at_us
        elif kind == _ANSWER:
            if channel.answered_at_us is None:
                channel.answered_at_us = at_us
        elif kind == _LINKED_END:
            ended_linked_ids.append(row)
        elif kind in (_STREAM_BEGIN, _STREAM_END):
            streams.append(row)
    first = _first_row(rows, marks)
    if first is None:
        return None
    return _story(rows, first, channels, marks, bridge_rows, streams, ended_linked_ids)


def _story(
    rows: Sequence[Row],
    first: Row,
    channels: dict[str, Channel],
    marks: Sequence[Row],
    bridge_rows: list[Row],
    streams: Sequence[Row],
    ended_linked_ids: Sequence[Row],
) -> Story:
    inbound = channels.pop(first.unique_id)
    own = [row for row in rows if row.unique_id == inbound.unique_id]
    linked_ids = {row.linked_id for row in own}
    are_all_over = any(row.linked_id in linked_ids for row in ended_linked_ids) and (
        inbound.ended_at_us is not None or own[-1].linked_id in {row.linked_id for row in ended_linked_ids}
    )
    if are_all_over and inbound.ended_at_us is None:
        # Its own end is missing (a full disk eats rows), but nobody of this linked id is left.
        inbound.ended_at_us = ended_linked_ids[-1].at_us
    tale = Story(inbound, own[0], frozenset(row.channel for row in own), rows[-1].at_us)
    tale.channels = list(channels.values())
    tale.by_name = {channel.name: channel for channel in tale.channels}
    tale.bridge_rows = bridge_rows
    tale.all_channels_ended = are_all_over or all(channel.ended_at_us is not None for channel in tale.channels)
    for row in marks:
        if row.user_event == grouping.RATE_EVENT:
            tale.take_rating(row)
            continue
        # Who is called back is asked on their own channel, and recorded there.
        if row.unique_id == inbound.unique_id or (tale.is_outbound and row.user_event in _OF_CALLED):
            tale.take_mark(row)
    if streams:
        tale.take_streams(streams)
        for row in streams:
            # Who is called back hears a question, no whisper.
            begins = row.kind == _STREAM_BEGIN and not tale.is_outbound
            if begins and row.unique_id in channels and row.user_event.startswith(_FILE):
                channel = channels[row.unique_id]
                channel.heard_whisper = channel.heard_whisper or not _NO_WHISPER.fullmatch(row.data.get("sound", ""))
    return tale


def _first_row(rows: Sequence[Row], marks: Sequence[Row]) -> Row | None:
    """A row of the inbound channel. A queue that sends its caller into our contexts again makes marks on a Local
    channel inside the same call, so a channel that is not Local goes before, and then the earliest."""
    marks = [row for row in marks if row.user_event != grouping.RATE_EVENT]
    if marks:
        return next((row for row in marks if not row.channel.startswith("Local/")), marks[0])
    return next((row for row in rows if grouping.begins_call(row)), None)


def _take_answer(channel: Channel, row: Row) -> None:
    """DM_ACCEPT: what came of asking who answered to press a key."""
    said = row.data.get("r")
    channel.accepted = said == "accepted"
    if said == "machine":
        channel.machine = True


def _take_hangup(channel: Channel, row: Row) -> None:
    if channel.cause is not None:
        return
    cause = row.data.get("hangupcause", "")
    channel.cause = int(cause) if cause.isdecimal() else 0
    channel.source = row.data.get("hangupsource", "")
    channel.ended_at_us = row.at_us
    channel.name = row.channel


def peer_of(name: str) -> str:
    """What stands between `/` and the last `-` of a channel's name: `PJSIP/desk-1-0000002c` → `desk-1`."""
    return name.partition("/")[2].rpartition("-")[0]


def _member(token: str) -> tuple[str, str]:
    key, _, peer = token.partition(":")
    return key, peer

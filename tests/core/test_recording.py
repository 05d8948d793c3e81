"""Names of the spool, what belongs together, and how sides and parts are laid beside each other."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import erasure, recording, waveform

CALL = "2f1c3a52-8a7c-4d1e-9b44-6c1c2f0a7e35"


@pytest.mark.parametrize(
    ("name", "part", "side", "form", "rate", "start_ms"),
    [
        (f"{CALL}.1-caller.sln", 1, "caller", "sln", 8_000, None),
        (f"{CALL}.12-agent.ulaw", 12, "agent", "ulaw", 8_000, None),
        (f"{CALL}.2.1795300070540-agent.wav16", 2, "agent", "wav16", 16_000, 1_795_300_070_540),
        (f"{CALL}.1-message.sln16", 1, "message", "sln16", 16_000, None),
    ],
)
def test_names(name: str, part: int, side: str, form: str, rate: int, start_ms: int | None) -> None:
    file = recording.parse_name(name)
    assert file is not None
    assert (file.call_id, file.part, file.side, file.form, file.rate) == (CALL, part, side, form, rate)
    assert file.start_ms == start_ms


@pytest.mark.parametrize(
    "name",
    ["", ".", CALL, f"{CALL}.1-caller.mp3", f"{CALL}.x-caller.sln", f"../{CALL}.1-caller.sln", f"{CALL}.1-caller.sln\n",
     f"{CALL.upper()}.1-caller.sln", f"{CALL}.1-caller.sln.tmp", f".{CALL}.1-caller.sln"],
)  # fmt: skip
def test_other_names_are_none(name: str) -> None:
    assert recording.parse_name(name) is None


def test_files_are_grouped_by_call_and_kind() -> None:
    other = CALL.replace("2f1c", "aaaa")
    names = [f"{CALL}.2-agent.sln", f"{CALL}.1-caller.sln", f"{CALL}.1-agent.sln", f"{other}.1-message.sln", "junk",
             f"{CALL}.1-message.sln"]  # fmt: skip
    found = {(group.call_id, group.kind): group for group in recording.groups(names)}
    assert set(found) == {(CALL, "talk"), (CALL, "voicemail"), (other, "voicemail")}
    talk = found[(CALL, recording.Kind.TALK)]
    assert [(part.number, part.caller is None, part.agent is None) for part in talk.parts] == [
        (1, False, False),
        (2, True, False),
    ]
    assert recording.parts_text(talk.parts) == "1 2"
    left = talk.without([1])
    assert left is not None
    assert [file.name for file in left.files] == [f"{CALL}.2-agent.sln"]
    assert talk.without([1, 2]) is None


def test_ids_stay_the_same() -> None:
    """A change would store every recording that waits in a spool a second time."""
    assert recording.recording_id(CALL, recording.Kind.TALK, 1) == recording.recording_id(CALL, recording.Kind.TALK, 1)
    ids = {recording.recording_id(CALL, kind, part) for kind in recording.Kind for part in (1, 2)}
    assert len(ids) == 4


def test_a_part_begins_as_long_after_the_one_before_as_the_journals_pause_took() -> None:
    """R42: with silent parts between them too; not known of a pause without an end, or one the journal lacks."""
    pauses = [(2_000, 3_500), (5_000, 5_250), (9_000, None)]
    assert recording.resumed_us(2_100, 1, 2, pauses) == 3_600
    assert recording.resumed_us(2_100, 1, 3, pauses) == 5_350
    assert recording.resumed_us(9_000, 3, 4, pauses) is None
    assert recording.resumed_us(9_000, 3, 5, pauses) is None
    assert recording.resumed_us(9_000, 1, 2, []) is None


def test_leads_and_gaps() -> None:
    assert recording.leads(16_000, 15_704, 8_000) == (0, 296)
    assert recording.leads(15_960, 16_000, 8_000) == (40, 0)
    assert recording.leads(16_000, 8_000, 8_000) == (0, 0)
    assert recording.leads(16_000, 0, 8_000) == (0, 0)
    assert recording.gap_samples(1_000_000, 3_500_000, 8_000) == 20_000
    assert recording.gap_samples(3_000_000, 1_000_000, 8_000) == 0
    assert recording.gap_samples(0, 10**15, 8_000) == 4 * 3600 * 8_000


@given(left=st.lists(st.integers(-32768, 32767), max_size=50), right=st.lists(st.integers(-32768, 32767), max_size=50))
def test_interleaving_keeps_both_sides(left: list[int], right: list[int]) -> None:
    stereo = waveform.samples(waveform.interleave(array("h", left), array("h", right)))
    length = max(len(left), len(right))
    assert list(stereo[0::2]) == left + [0] * (length - len(left))
    assert list(stereo[1::2]) == right + [0] * (length - len(right))


@pytest.mark.parametrize(
    ("form", "codes", "linear"),
    [
        ("ulaw", [0x00, 0x80, 0xFF, 0x7F, 0xF0, 0x70], [-32124, 32124, 0, 0, 120, -120]),
        ("alaw", [0xD5, 0x55, 0xAA, 0x2A, 0x80, 0x00], [8, -8, 32256, -32256, 5504, -5504]),
    ],
)
def test_telephone_codes(form: str, codes: list[int], linear: list[int]) -> None:
    """Values of ITU-T G.711, tables 1a and 2a, in 16 bit."""
    assert list(waveform.samples(waveform.expanded(bytes(codes), form))) == linear


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=10))
def test_peaks_do_not_depend_on_how_sound_comes_in(cuts: list[int]) -> None:
    sound = array("h", [(at * 37) % 20_000 - 10_000 for at in range(sum(cuts))])
    whole, pieces = waveform.Peaks(2), waveform.Peaks(2)
    whole.add(sound, array("h"))
    at = 0
    for cut in cuts:
        pieces.add(sound[at : at + cut], array("h"))
        at += cut
    assert whole.document(8_000) == pieces.document(8_000)


def test_masked_lines_keep_their_length() -> None:
    line = (
        b'"1795300070.5","USER_DEFINED","DM_IN","PJSIP/74951112233-01","n1","n1","dialmark-inbound","","CELGenUserEvent",'
        b'"{""extra"":""v=1&i=cd26&did=74990000001&cid=74951112233&raw=8495111&name=Ivan+P&tr=carrier-a&sip=1%40h""}"'
    )
    masked = erasure.masked_line(line, [b"74951112233"])
    assert len(masked) == len(line)
    for word in (b"74951112233", b"8495111", b"Ivan", b"1%40h"):
        assert word not in masked
    for word in (b"did=74990000001", b"i=cd26", b"tr=carrier-a", b'""}"'):
        assert word in masked
    assert erasure.masked_line(masked, [b"74951112233"]) == masked
    assert erasure.names_number(line, [b"74951112233"])
    assert not erasure.names_number(line, [b"7495111223"])

"""The container refuses whatever is not exactly what was written, and reads any part of it alone (R45)."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.store import vault

KEY = bytes(range(32))
ID = "6f3a1c0e-57c1-4d0b-8a53-1f0f4d6b2c90"
OTHER_ID = "00000000-57c1-4d0b-8a53-1f0f4d6b2c90"
FRAME = vault.FRAME_BYTES
STORED = FRAME + vault.TAG_BYTES
BODY = os.urandom(3 * FRAME + 1234)

anything = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def put(path: Path, body: bytes = BODY, key: bytes = KEY, recording_id: str = ID) -> Path:
    vault.write(path, key, recording_id, [body])
    return path


def whole(path: Path, key: bytes = KEY, recording_id: str = ID) -> bytes:
    with vault.Reader(path, key, recording_id) as reader:
        return reader.read()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return put(tmp_path / "recording.dmv")


@pytest.mark.parametrize("length", [0, 1, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME, 2 * FRAME + 7])
def test_it_comes_back_whatever_its_length(tmp_path: Path, length: int) -> None:
    body = os.urandom(length)
    pieces = [body[at : at + 1000] for at in range(0, length, 1000)]
    path = tmp_path / "deep" / "down" / "recording.dmv"
    assert vault.write(path, KEY, ID, pieces) == length
    with vault.Reader(path, KEY, ID) as reader:
        assert reader.length == length
        assert reader.read() == body
    assert path.stat().st_size == vault.HEADER_BYTES + length + vault.TAG_BYTES * max(1, -(-length // FRAME))


@anything
@given(start=st.integers(0, len(BODY) + 10), stop=st.one_of(st.none(), st.integers(0, len(BODY) + 10)))
def test_any_range_is_the_slice(file: Path, start: int, stop: int | None) -> None:
    with vault.Reader(file, KEY, ID) as reader:
        assert reader.read(start, stop) == BODY[start:stop]


def test_a_range_reads_only_the_frames_it_needs(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[vault.HEADER_BYTES + 5] ^= 1
    file.write_bytes(raw)
    with vault.Reader(file, KEY, ID) as reader:
        assert reader.read(FRAME, FRAME + 100) == BODY[FRAME : FRAME + 100]
        with pytest.raises(vault.VaultDamaged, match="frame 0"):
            reader.read(0, 1)


@anything
@given(data=st.data())
def test_any_bit_that_flips_is_refused(file: Path, data: st.DataObject) -> None:
    raw = bytearray(file.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    changed = file.with_name("changed.dmv")
    changed.write_bytes(raw)
    with pytest.raises(vault.VaultDamaged):
        whole(changed)


@anything
@given(length=st.one_of(st.integers(0, 16 + 4 * STORED), st.sampled_from([16 + n * STORED for n in range(4)])))
def test_a_file_that_was_cut_is_refused_when_it_is_opened(file: Path, length: int) -> None:
    raw = file.read_bytes()
    cut = file.with_name("cut.dmv")
    cut.write_bytes(raw[: min(length, len(raw) - 1)])
    with pytest.raises(vault.VaultDamaged):
        vault.Reader(cut, KEY, ID)


@anything
@given(extra=st.binary(min_size=1, max_size=100))
def test_a_file_that_grew_is_refused_when_it_is_opened(file: Path, extra: bytes) -> None:
    longer = file.with_name("longer.dmv")
    longer.write_bytes(file.read_bytes() + extra)
    with pytest.raises(vault.VaultDamaged):
        vault.Reader(longer, KEY, ID)


@pytest.mark.parametrize(("one", "other"), [(0, 1), (1, 2), (0, 2)])
def test_frames_that_changed_places_are_refused(file: Path, one: int, other: int) -> None:
    raw = bytearray(file.read_bytes())
    first, second = (slice(16 + n * STORED, 16 + (n + 1) * STORED) for n in (one, other))
    raw[first], raw[second] = raw[second], raw[first]
    file.write_bytes(raw)
    with pytest.raises(vault.VaultDamaged):
        whole(file)


def test_a_frame_left_out_or_doubled_is_refused(file: Path) -> None:
    raw = file.read_bytes()
    for changed in (raw[:16] + raw[16 + STORED :], raw[: 16 + STORED] + raw[16:]):
        file.write_bytes(changed)
        with pytest.raises(vault.VaultDamaged):
            whole(file)


def test_a_frame_of_an_older_version_of_the_file_is_refused(tmp_path: Path) -> None:
    """Same key, same recording, same place: the prefix of the nonce differs."""
    old = put(tmp_path / "a.dmv").read_bytes()
    new = bytearray(put(tmp_path / "a.dmv", os.urandom(len(BODY))).read_bytes())
    new[16 : 16 + STORED] = old[16 : 16 + STORED]
    (tmp_path / "a.dmv").write_bytes(new)
    with pytest.raises(vault.VaultDamaged):
        whole(tmp_path / "a.dmv")


def test_another_recording_and_another_key_are_refused(file: Path) -> None:
    with pytest.raises(vault.VaultDamaged):
        vault.Reader(file, KEY, OTHER_ID)
    with pytest.raises(vault.VaultDamaged):
        vault.Reader(file, bytes(32), ID)


def test_the_key_and_the_speech_are_not_in_the_file(tmp_path: Path) -> None:
    raw = put(tmp_path / "a.dmv", b"hello, this is the dentist " * 5000).read_bytes()
    assert KEY not in raw
    assert b"dentist" not in raw
    assert put(tmp_path / "b.dmv", b"same").read_bytes() != put(tmp_path / "c.dmv", b"same").read_bytes()


def test_a_body_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def body() -> Iterator[bytes]:
        yield b"x" * 200_000
        raise OSError("the disk is full")

    path = put(tmp_path / "a.dmv", b"old")
    with pytest.raises(OSError, match="full"):
        vault.write(path, KEY, ID, body())
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.dmv"]
    assert whole(path) == b"old"


def test_others_may_not_read_it(tmp_path: Path) -> None:
    path = put(vault.file_of(tmp_path, str(uuid.uuid4()), 1_790_000_000_000_000))
    assert path.parent.relative_to(tmp_path).parts == ("2026", "09", "21")
    assert not stat.S_IMODE(path.stat().st_mode) & 0o007
    assert not stat.S_IMODE(path.parent.stat().st_mode) & 0o007


def test_a_missing_file_is_named_and_a_removed_one_is_gone(file: Path) -> None:
    assert vault.remove(file)
    assert not vault.remove(file)
    with pytest.raises(vault.VaultMissing, match=r"recording\.dmv"):
        vault.Reader(file, KEY, ID)

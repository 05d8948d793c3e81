"""The tail: nothing lost and nothing doubled over rotations, truncation, kills of the reader and torn rows (N1)."""

from __future__ import annotations

import gzip
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from gateway.core.rows import Row
from gateway.pbx import journal, journalfiles
from gateway.pbx.journalfiles import Batch, JournalReader
from tests import journals

NOW = 1_795_300_000_000_000
SECOND = 1_000_000


def line(number: int) -> bytes:
    second, micro = divmod(number, 1_000_000)
    channel = f"node1-1795300008.{number}"
    return (
        f'"{1_795_300_008 + second}.{micro:06d}","CHAN_START","","PJSIP/a-{number:08x}","{channel}","{channel}",'
        f'"dialmark-from-a","","",""\n'
    ).encode()


def write(path: Path, numbers: range) -> None:
    with path.open("ab") as stream:
        stream.writelines(line(number) for number in numbers)


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def content_of(path: Path) -> bytes:
    return path.read_bytes()


def renamed(path: Path, name: str) -> Path:
    return path.rename(path.with_name(name))


def changed_at_us(path: Path) -> int:
    return path.stat().st_mtime_ns // 1000


def delete(path: Path) -> None:
    path.unlink()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def number_of(row: Row) -> int:
    return int(row.unique_id.rpartition(".")[2])


async def drain(reader: JournalReader, now_us: int = NOW) -> list[Batch]:
    found: list[Batch] = []
    while (batch := await reader.next_batch(now_us)) is not None:
        found.append(batch)
    return found


async def numbers(reader: JournalReader, now_us: int = NOW) -> list[int]:
    return [number_of(item.row) for batch in await drain(reader, now_us) for item in batch.lines]


@pytest.fixture
def live(tmp_path: Path) -> Path:
    folder = tmp_path / "cel-custom"
    folder.mkdir()
    return folder / journalfiles.LIVE_NAME


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def reader_of(live: Path, **settings: Any) -> JournalReader:
    return JournalReader(live.parent, **settings)


async def test_an_empty_folder_has_nothing(live: Path) -> None:
    reader = reader_of(live)
    assert await reader.next_batch(NOW) is None
    put(live, b"")
    assert await reader.next_batch(NOW) is None
    assert reader.unread_bytes() == 0


async def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        await JournalReader(tmp_path / "none").next_batch(NOW)


async def test_batches_are_bounded_and_follow_each_other(live: Path) -> None:
    write(live, range(1_234))
    reader = reader_of(live)
    reader.max_rows = 500
    batches = await drain(reader)
    assert [len(batch.lines) for batch in batches] == [500, 500, 234]
    assert batches[0].start == 0
    assert [batch.end for batch in batches[:-1]] == [batch.start for batch in batches[1:]]
    assert batches[-1].end == len(content_of(live))
    content = content_of(live)
    for batch in batches:
        for item in batch.lines:
            assert content[item.offset :].startswith(item.raw + b"\n")


async def test_small_chunks_give_the_same_rows(live: Path) -> None:
    write(live, range(50))
    reader = reader_of(live, chunk_bytes=400)
    assert await numbers(reader) == list(range(50))


async def test_half_a_line_waits_for_its_end(live: Path) -> None:
    """Fed byte by byte: a row comes when its line end does, once."""
    reader = reader_of(live)
    content = line(0) + line(1)
    seen: list[int] = []
    with live.open("ab", buffering=0) as stream:
        for position in range(len(content)):
            stream.write(content[position : position + 1])
            seen += await numbers(reader)
            assert len(seen) == content[: position + 1].count(b"\n")
    assert seen == [0, 1]


async def test_goes_on_where_progress_says(live: Path) -> None:
    write(live, range(10))
    first = (await drain(reader_of(live, max_rows=4)))[0]
    again = reader_of(live, progress={first.file.fingerprint: first.end})
    assert await numbers(again) == list(range(4, 10))


async def test_rename_loses_and_doubles_nothing(live: Path) -> None:
    reader = reader_of(live)
    write(live, range(5))
    assert await numbers(reader) == list(range(5))
    write(live, range(5, 7))
    passed = renamed(live, "dialmark.csv.1795300001000000000")
    write(live, range(7, 9))
    assert await numbers(reader) == [5, 6, 7, 8]
    write(passed, range(9, 10))
    assert await numbers(reader) == [9], "a row that was on its way while the file was renamed"


async def test_rotated_while_away_is_read_oldest_first(live: Path) -> None:
    for first, name in ((0, "dialmark.csv.9"), (3, "dialmark.csv.10"), (6, "dialmark.csv-20261121")):
        write(live.with_name(name), range(first, first + 3))
    write(live, range(9, 12))
    assert await numbers(reader_of(live)) == list(range(12))


async def test_copytruncate_goes_on_in_the_copy(live: Path) -> None:
    """Somebody's logrotate: the copy is the same file for us, the truncated one is a new one."""
    reader = reader_of(live)
    write(live, range(4))
    assert await numbers(reader) == list(range(4))
    write(live, range(4, 6))
    copy = live.with_name("dialmark.csv.1")
    shutil.copyfile(live, copy)
    put(live, b"")
    assert await numbers(reader) == [4, 5]
    write(live, range(6, 20))
    assert await numbers(reader) == list(range(6, 20)), "longer than before, under the same inode"


async def test_compressed_by_somebody_while_away(live: Path) -> None:
    write(live, range(6))
    reader = reader_of(live, max_rows=2)
    batch = await reader.next_batch(NOW)
    assert batch is not None
    with gzip.open(live.with_name("dialmark.csv.1.gz"), "wb") as packed:
        packed.write(content_of(live))
    delete(live)
    write(live, range(6, 8))
    again = reader_of(live, progress={batch.file.fingerprint: batch.end})
    assert await numbers(again) == list(range(2, 8))


async def test_journal_deleted(live: Path) -> None:
    reader = reader_of(live)
    write(live, range(3))
    assert await numbers(reader) == [0, 1, 2]
    delete(live)
    assert await numbers(reader) == []
    write(live, range(3, 5))
    assert await numbers(reader) == [3, 4]


async def test_position_beyond_the_end_reads_what_comes_after(live: Path) -> None:
    reader = reader_of(live)
    write(live, range(6))
    await numbers(reader)
    size = len(line(0)) * 3
    with live.open("r+b") as stream:
        stream.truncate(size)
    assert await numbers(reader) == []
    assert reader.counts.truncated == 1
    write(live, range(6, 8))
    assert await numbers(reader) == [6, 7]


async def test_torn_and_glued_rows_are_quarantined_and_counted(live: Path) -> None:
    reader = reader_of(live)
    put(live, line(0) + line(1)[:40] + line(2) + b"rubbish\rmore\n" + line(3))
    (batch,) = await drain(reader)
    assert [number_of(item.row) for item in batch.lines] == [0, 2, 3]
    assert [item.offset for item in batch.damaged] == [len(line(0)), len(line(0)) + 40 + len(line(2))]
    assert (reader.counts.damaged, reader.counts.recovered) == (2, 1)


async def test_a_line_without_end_in_a_passed_file(live: Path) -> None:
    reader = reader_of(live)
    passed = live.with_name("dialmark.csv.1")
    put(passed, line(0) + line(1)[:-1])
    write(live, range(2, 3))
    assert await numbers(reader, NOW) == [0, 2]
    assert await numbers(reader, NOW + SECOND) == []
    assert await numbers(reader, NOW + 3 * SECOND) == [1], "after two seconds nothing more will come"


async def test_an_endless_line_does_not_stop_the_reader(live: Path) -> None:
    reader = reader_of(live, chunk_bytes=64 * 1024)
    put(live, line(0) + b"x" * 300_000 + b"\n" + line(1))
    assert await numbers(reader) == [0, 1]
    assert reader.counts.damaged >= 1


async def test_rotates_and_archives(live: Path, archive: Path) -> None:
    reader = reader_of(live, archive=archive, rotate_bytes=1_000)
    write(live, range(20))
    assert await numbers(reader) == list(range(20))
    assert await reader.tidy(NOW) == []
    assert live.name not in names_in(live.parent)
    write(live, range(20, 22))
    assert await numbers(reader, NOW) == [20, 21]
    assert await reader.tidy(NOW + SECOND) == [], "a row may still be on its way"
    assert await numbers(reader, NOW + SECOND) == []
    (made,) = await reader.tidy(NOW + 4 * SECOND)
    assert names_in(live.parent) == [live.name]
    assert (reader.counts.rotated, reader.counts.archived) == (1, 1)

    (kept,) = journalfiles.archived(archive)
    assert kept.path == made
    rows = [item.row for item in journalfiles.read_whole(kept.path) if isinstance(item, journal.Line)]
    assert [number_of(row) for row in rows] == list(range(20))
    assert [file.path for file in journalfiles.everything(live.parent, archive)] == [made, live]


@pytest.mark.parametrize("is_archived", [False, True])
def test_everything_is_read_once_while_files_move(live: Path, archive: Path, is_archived: bool) -> None:
    """N1: the live file is rotated, or a rotated one archived, after it was listed and before it is read."""
    write(live.with_name("dialmark.csv.1"), range(3))
    write(live, range(3, 6))
    lists = 0

    def files() -> list[journalfiles.JournalFile]:
        nonlocal lists
        lists += 1
        found = journalfiles.everything(live.parent, archive)
        if lists == 1 and is_archived:
            to_archive(found[0], archive)
        elif lists == 1:
            renamed(live, "dialmark.csv.2")
            write(live, range(6, 8))
        return found

    lines = [line for _, line in journalfiles.read_everything(files)]
    rows = [number_of(line.row) for line in lines if isinstance(line, journal.Line)]
    assert rows == list(range(6 if is_archived else 8))
    assert lists == 3, "the last one has nothing new"


def to_archive(file: journalfiles.JournalFile, archive: Path) -> None:
    archive.mkdir()
    with gzip.open(archive / f"journal-{file.first_row_us:016d}-{file.fingerprint}.csv.gz", "wb") as kept:
        kept.write(content_of(file.path))
    delete(file.path)


@pytest.mark.parametrize("before", ["folder", "archive"])
def test_a_file_that_is_archived_while_files_are_listed(
    live: Path, archive: Path, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """N1: else `verify` would name its records as invented, whichever of the two places is looked at first."""
    passed = live.with_name("dialmark.csv.1")
    write(passed, range(3))
    write(live, range(3, 6))
    (old, _) = journalfiles.everything(live.parent, None)
    looks = {"folder": "_scan", "archive": "archived"}
    look = getattr(journalfiles, looks[before])

    def late(*arguments: Any) -> Any:
        if passed.exists():
            to_archive(old, archive)
        return look(*arguments)

    monkeypatch.setattr(journalfiles, looks[before], late)
    found = journalfiles.everything(live.parent, archive)
    assert [file.fingerprint for file in found if not file.is_live] == [old.fingerprint]
    assert len(found) == 2


def test_a_file_that_a_listing_missed_is_in_the_next(live: Path) -> None:
    """Renamed between two steps of one look at the folder."""
    write(live.with_name("dialmark.csv.1"), range(3))
    write(live, range(3, 6))
    found = journalfiles.everything(live.parent, None)
    listings = iter([found[1:]])
    lines = [line for _, line in journalfiles.read_everything(lambda: next(listings, found))]
    assert sorted(number_of(line.row) for line in lines if isinstance(line, journal.Line)) == list(range(6))


def test_a_file_that_is_never_where_it_was_listed_is_given_up(live: Path) -> None:
    write(live, range(3))
    found = journalfiles.everything(live.parent, None)
    delete(live)
    with pytest.raises(OSError, match="again and again"):
        list(journalfiles.read_everything(lambda: found))


async def test_archives_nothing_that_was_not_read(live: Path, archive: Path) -> None:
    write(live.with_name("dialmark.csv.1"), range(3))
    reader = reader_of(live, archive=archive)
    await reader.tidy(NOW)
    assert await reader.tidy(NOW + 5 * SECOND) == []
    assert await numbers(reader) == [0, 1, 2]
    assert len(await reader.tidy(NOW + 5 * SECOND)) == 1


async def test_archive_is_pruned_by_age(live: Path, archive: Path) -> None:
    write(live.with_name("dialmark.csv.1"), range(3))
    reader = reader_of(live, archive=archive)
    await numbers(reader)
    await reader.tidy(NOW)
    (made,) = await reader.tidy(NOW + 5 * SECOND)
    changed_us = changed_at_us(made)
    assert journalfiles.prune(archive, changed_us - SECOND) == []
    assert journalfiles.prune(archive, changed_us + SECOND) == [made]
    assert journalfiles.archived(archive) == []


@pytest.mark.parametrize("seed", range(20))
async def test_killed_at_any_time_over_rotations(live: Path, archive: Path, seed: int) -> None:
    """Writer, rotations, truncating copies and a reader that loses what it had not stored, in any order."""
    chance = random.Random(seed)
    stored: dict[str, int] = {}
    seen: list[int] = []
    reader = reader_of(live, archive=archive, max_rows=7, rotate_bytes=3_000)
    written, now_us = 0, NOW
    for _ in range(120):
        now_us += 500_000
        match chance.randrange(6):
            case 0 | 1:
                count = chance.randrange(1, 12)
                write(live, range(written, written + count))
                written += count
            case 2 if live.name in names_in(live.parent):
                renamed(live, f"dialmark.csv.{now_us}")
            case 3:
                reader = reader_of(live, archive=archive, max_rows=7, rotate_bytes=3_000, progress=stored)
            case 4:
                await reader.tidy(now_us)
            case _:
                batch = await reader.next_batch(now_us)
                if batch is not None and chance.random() < 0.8:
                    seen += [number_of(item.row) for item in batch.lines]
                    stored[batch.file.fingerprint] = batch.end
                elif batch is not None:
                    reader = reader_of(live, archive=archive, max_rows=7, rotate_bytes=3_000, progress=stored)
    seen += await numbers(reader, now_us)
    assert sorted(seen) == list(range(written))


async def test_a_recorded_journal_byte_by_byte(live: Path) -> None:
    content = journals.content("busy_then_reserve")
    reader = reader_of(live)
    found: list[Row] = []
    for position in range(0, len(content), 37):
        with live.open("ab") as stream:
            stream.write(content[position : position + 37])
        found += [item.row for batch in await drain(reader) for item in batch.lines]
    assert found == journals.rows("busy_then_reserve")

"""The journal's disk nearly full: the ballast is freed, an alarm raised, and both go back when there is space (N1)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.pbx import journalfiles
from gateway.services import journalguard

BALLAST = 1_048_576
ALARM = "journal's disk is nearly full"
WELL_AGAIN = "journal's disk has space again"
COMPLAINT = "journal's ballast not made or not freed"


@dataclass
class Figures:
    total: int
    free: int


class Disk:
    """A disk of 40 ballasts; what the guard holds of it is measured on the real file, the rest is set."""

    def __init__(self, folder: Path, ballast_bytes: int = BALLAST) -> None:
        self.folder = folder
        self.ballast = folder / journalguard.BALLAST_NAME
        self.total = 40 * BALLAST
        self.used = 0.0
        """Share that others use."""
        self.broken = False
        self.guard = self.anew(ballast_bytes)

    def anew(self, ballast_bytes: int = BALLAST) -> journalguard.JournalGuard:
        self.guard = journalguard.JournalGuard(self.folder, ballast_bytes=ballast_bytes, measure=self.figures)
        return self.guard

    def figures(self, folder: Path) -> Figures:
        assert folder == self.folder
        if self.broken:
            raise FileNotFoundError(folder)
        return Figures(self.total, max(0, round(self.total * (1 - self.used)) - self.held()))

    def held(self) -> int:
        return self.ballast.stat().st_blocks * 512 if self.ballast.exists() else 0

    def look(self, used: float) -> list[str]:
        """The lines of the log of one look."""
        self.used = used
        with capture_logs() as lines:
            self.guard.look()
        return [line["event"] for line in lines]


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def test_the_ballast_holds_space(disk: Disk) -> None:
    assert disk.look(0.5) == []
    assert disk.ballast.stat().st_size == BALLAST
    assert disk.held() >= BALLAST
    assert (disk.guard.has_ballast, disk.guard.problem) == (True, None)
    assert disk.ballast.stat().st_mode & 0o777 == 0o600


def test_the_reader_of_the_journal_does_not_see_it(disk: Disk) -> None:
    disk.look(0.5)
    assert journalfiles.JournalReader(disk.folder).files() == []


def test_freed_below_five_percent_with_one_line(disk: Disk) -> None:
    disk.look(0.5)
    assert disk.look(0.92) == []
    assert disk.guard.has_ballast
    assert disk.look(0.93) == [ALARM]
    assert (disk.guard.has_ballast, disk.held()) == (False, 0)
    assert disk.guard.problem is not None
    assert disk.look(0.97) == []
    assert disk.look(1.0) == []
    assert disk.guard.space == journalguard.Space(0, disk.total)


def test_the_line_says_how_much(disk: Disk) -> None:
    disk.look(0.5)
    disk.used = 0.94
    with capture_logs() as lines:
        disk.guard.look()
    (line,) = lines
    assert (line["log_level"], line["free"], line["folder"]) == ("error", "3.5%", str(disk.folder))
    assert line["ballast_freed_bytes"] >= BALLAST


def test_the_alarm_lasts_until_there_is_space_for_the_ballast_too(disk: Disk) -> None:
    """The freed ballast is 2.5 % of this disk: of 89 % used it leaves 11 % free, which would be 8.5 % with it."""
    disk.look(0.5)
    assert disk.look(0.94) == [ALARM]
    for used in (0.91, 0.89):
        assert disk.look(used) == []
        assert disk.guard.problem is not None
        assert not disk.ballast.exists()
    assert disk.look(0.86) == [WELL_AGAIN]
    assert disk.guard.problem is None
    assert disk.held() >= BALLAST
    assert disk.look(0.94) == [ALARM]


def test_a_ballast_that_is_a_large_part_of_the_disk_does_not_ring_again_and_again(disk: Disk) -> None:
    """Freeing it brings the disk above 10 %, and making it again would bring it below 5 %."""
    disk.anew(8 * BALLAST)
    disk.look(0.5)
    assert disk.look(0.78) == [ALARM]
    for _ in range(3):
        assert disk.look(0.78) == []
        assert disk.guard.problem is not None
        assert not disk.ballast.exists()


def test_not_made_on_a_disk_without_room_for_it(disk: Disk) -> None:
    assert disk.look(0.88) == []
    assert not disk.ballast.exists()
    assert disk.guard.problem is None
    assert disk.look(0.96) == [ALARM]


def test_none(disk: Disk) -> None:
    """0: the alarm works without it, and the one of an earlier run goes."""
    disk.look(0.5)
    disk.anew(0)
    assert disk.look(0.5) == []
    assert not disk.ballast.exists()
    assert disk.look(0.96) == [ALARM]
    assert disk.look(0.92) == []
    assert disk.look(0.89) == [WELL_AGAIN]


@pytest.mark.parametrize("size", [2 * BALLAST, BALLAST // 2])
def test_the_one_of_an_earlier_run_is_cut_or_grown(disk: Disk, size: int) -> None:
    disk.anew(size)
    disk.look(0.5)
    disk.anew()
    disk.look(0.5)
    assert disk.ballast.stat().st_size == BALLAST
    assert disk.held() >= BALLAST


def test_a_restored_one_that_holds_no_space_is_filled(disk: Disk) -> None:
    with disk.ballast.open("wb") as file:
        file.truncate(BALLAST)
    assert disk.held() < BALLAST
    disk.look(0.5)
    assert disk.held() >= BALLAST


def test_made_again_when_somebody_deletes_it(disk: Disk) -> None:
    disk.look(0.5)
    disk.ballast.unlink()
    disk.look(0.5)
    assert disk.held() >= BALLAST


def test_freed_at_once_when_an_earlier_run_left_it_on_a_full_disk(disk: Disk) -> None:
    disk.look(0.5)
    disk.anew()
    assert disk.look(0.96) == [ALARM]
    assert not disk.ballast.exists()


def test_a_disk_that_does_not_take_it_is_survived(disk: Disk) -> None:
    """The figures promise what the real disk refuses: told once, nothing is left behind, the alarm works."""
    disk.total = 1 << 62
    disk.anew(1 << 60)
    assert disk.look(0.5) == [COMPLAINT]
    assert disk.look(0.5) == []
    assert (disk.guard.has_ballast, disk.ballast.exists(), disk.guard.problem) == (False, False, None)
    assert disk.look(0.96) == [ALARM]


def test_something_else_of_its_name_is_survived(disk: Disk) -> None:
    disk.ballast.mkdir()
    assert disk.look(0.5) == [COMPLAINT]
    assert disk.look(0.96) == [ALARM]
    assert disk.look(0.5) == [WELL_AGAIN]


def test_a_link_is_not_followed(disk: Disk, tmp_path: Path) -> None:
    """Asterisk may write into the folder; through a link it would have our files cut."""
    other = tmp_path / "other"
    other.write_text("kept")
    disk.ballast.symlink_to(other)
    assert disk.look(0.5) == [COMPLAINT]
    assert other.read_text() == "kept"
    disk.look(0.5)
    assert (disk.held() >= BALLAST, other.read_text()) == (True, "kept")


def test_unknown_figures_change_nothing(disk: Disk) -> None:
    disk.look(0.5)
    disk.broken = True
    assert disk.look(0.5) == []
    assert disk.guard.space is None
    disk.broken = False
    assert disk.look(0.96) == [ALARM]
    disk.broken = True
    assert disk.look(0.5) == []
    assert disk.guard.problem is not None


def test_a_filesystem_without_a_size_is_unknown(disk: Disk) -> None:
    disk.total = 0
    assert disk.look(0.5) == []
    assert (disk.guard.space, disk.guard.problem) == (None, None)


def test_a_folder_of_the_machine_is_measured(tmp_path: Path) -> None:
    guard = journalguard.JournalGuard(tmp_path, ballast_bytes=0)
    guard.look()
    assert guard.space is not None
    assert 0 <= guard.space.free_share <= 1

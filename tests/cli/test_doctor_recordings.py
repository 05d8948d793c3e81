"""`doctor` on what recordings need, well and ill. What Asterisk says: tests/cli/test_doctor.py, tests/test_docs.py."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import store
from gateway.cli import context, host_checks, recording_checks, recording_setup
from gateway.cli.findings import State
from gateway.core import callingback, prompts
from gateway.store import keyring, recordings
from tests import filesystems
from tests.cli.conftest import ROUTING, Operator

RECORDING = ROUTING.replace('forward = ["desk"]', 'forward = ["desk"]\nrecording = "opt_in"\nlanguage = "ru"')
# As the spool should have.
OTHER_FILESYSTEM = filesystems.another()
SOMEBODY = 64_002


class Site:
    """A machine on which everything for recordings is in place."""

    def __init__(self, operator: Operator, apart: Path) -> None:
        self.operator = operator
        self.folder = operator.folder
        self.spool = apart / "spool"
        self.ring_file = self.folder / "vault.keys"
        # Short: this path travels in plans.
        self.prompts = apart / "prompts"
        self.write_ring(keyring.new_line("2026-11"))
        self.spool.mkdir()
        self.spool.chmod(0o2770)
        (self.folder / "vault").mkdir(mode=0o700)
        self.prompts.mkdir()
        self.prompt("consent_opt_in-ru-0123456789abcdef")
        for name in ("ring", "wait"):
            (self.folder / "data" / "dialmark" / name).mkdir(parents=True)
            (self.folder / "data" / "dialmark" / name / "x.ulaw").write_bytes(b"x")
        (self.folder / "generated" / "asterisk.conf").write_text(f"[directories]\nastdatadir => {self.folder}/data\n")
        operator.config.write_text(
            f'{operator.config.read_text()}[vault]\ndir = "{self.folder}/vault"\nkeys_file = "{self.ring_file}"\n'
            f'[recording]\nspool_dir = "{self.spool}"\nsigning_key_file = "{self.folder}/receipts.key"\n'
            f'[prompts]\ndir = "{self.prompts}"\nengine = "espeak-ng"\n'
        )
        operator.apply(RECORDING)

    def write_ring(self, *lines: str) -> None:
        self.ring_file.write_text("\n".join(lines) + "\n")
        self.ring_file.chmod(0o600)

    def prompt(self, name: str) -> None:
        (self.prompts / f"{name}.ulaw").write_bytes(bytes(8_000))
        (self.prompts / f"{name}.alaw").write_bytes(bytes(8_000))
        (self.prompts / f"{name}.json").write_text(json.dumps({"prompt_id": "x", "version": "0", "seconds": 1.0}))

    def replace(self, old: str, new: str) -> None:
        """In the settings."""
        text = self.operator.config.read_text()
        assert old in text
        self.operator.config.write_text(text.replace(old, new))

    def findings(self) -> dict[str, tuple[str, str, str]]:
        """State, text and advice by check; the daemon and Asterisk are missing, so it always fails."""
        rows = self.operator("doctor", "--format", "json", code=1).json
        assert all(row["advice"] for row in rows if row["state"] != "ok")
        return {row["check"]: (row["state"], row["text"], row["advice"]) for row in rows}

    def store_key(self, ring: keyring.KeyRing) -> None:
        """A key in the database that this ring has wrapped."""

        async def store_it() -> None:
            database = await store.Database.open(f"sqlite:///{self.folder}/dialmark.db")
            async with database.begin() as tx:
                await recordings.secret(tx, ring, "erasure")
            await database.close()

        asyncio.run(store_it())


@pytest.fixture
def site(operator: Operator) -> Iterator[Site]:
    apart = Path(tempfile.mkdtemp(prefix="dialmark-", dir=OTHER_FILESYSTEM))
    try:
        yield Site(operator, apart)
    finally:
        shutil.rmtree(apart)


def test_all_is_well(site: Site) -> None:
    """R33, R42, R45, C4."""
    found = site.findings()
    for check in ("key ring", "spool", "filesystems", "vault", "disk of the vault", "speech", "prompts"):
        assert found[check][0] == "ok", found[check]
    assert found["room of the spool"][0] in ("ok", "warn")
    assert "1 keys, '2026-11' is current; they open all of 0 stored" in found["key ring"][1]
    assert found["music class ring"][0] == found["music class wait"][0] == "ok"
    assert found["signing key"][:2] == ("warn", f"{site.folder}/receipts.key is not there yet")


def test_nothing_is_asked_of_who_records_nothing(operator: Operator) -> None:
    operator.apply()
    found = operator("doctor", "--format", "json", code=1).json
    about = {"key ring", "spool", "filesystems", "vault", "signing key", "speech", "prompts", "spool in Asterisk"}
    assert about & {row["check"] for row in found} == set()


def test_no_ring(site: Site) -> None:
    """Without one nothing is recorded, and the way to one is named."""
    site.replace(f'keys_file = "{site.ring_file}"', "")
    state, text, advice = site.findings()["key ring"]
    assert (state, "there is no key ring" in text, "dialmark init --write" in advice) == ("fail", True, True)


def test_a_ring_that_only_the_daemon_sees(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.replace(f'keys_file = "{site.ring_file}"', "")
    (site.folder / "vault.keys").touch()
    monkeypatch.setattr(recording_setup, "CREDENTIAL_STORES", (site.folder,))
    assert site.findings()["key ring"][:2] == ("warn", "is a systemd credential, which only the daemon sees")


@pytest.mark.parametrize("text", ["2026-11  c2hvcnQ=\n", None])
def test_a_ring_that_cannot_be_read(site: Site, text: str | None) -> None:
    if text is None:
        site.ring_file.unlink()
    else:
        site.ring_file.write_text(text)
    state, _, advice = site.findings()["key ring"]
    assert (state, "put your copy of the ring back" in advice) == ("fail", True)


def test_a_ring_that_others_may_read(site: Site) -> None:
    site.ring_file.chmod(0o644)
    state, text, _ = site.findings()["key ring"]
    assert (state, "others may read" in text) == ("fail", True)


def test_a_ring_that_lacks_a_key(site: Site) -> None:
    """R33: losing the ring is said now, not when somebody wants to listen; also where nothing is recorded any more."""
    site.store_key(keyring.parse(site.ring_file.read_text()))
    assert "open all of 1 stored" in site.findings()["key ring"][1]
    site.write_ring(keyring.new_line("2027-01"))
    site.operator.apply(ROUTING)
    state, text, advice = site.findings()["key ring"]
    assert (state, "key '2026-11' is not in the ring" in text) == ("fail", True)
    assert "from your copy" in advice


@pytest.mark.parametrize(
    ("mode", "wrong"),
    [(0o2777, "others may listen"), (0o770, "without setgid")],
)
def test_a_spool_with_other_rights(site: Site, mode: int, wrong: str) -> None:
    site.spool.chmod(mode)
    state, text, advice = site.findings()["spool"]
    assert (state, wrong in text, f"chmod 2770 {site.spool}" in advice) == ("fail", True, True)


def test_a_spool_that_is_missing(site: Site) -> None:
    site.replace(f'spool_dir = "{site.spool}"', f'spool_dir = "{site.spool}/none"')
    state, _, advice = site.findings()["spool"]
    assert (state, "dialmark init --write" in advice) == ("fail", True)


@pytest.mark.parametrize("mode", [0o2770, 0o2750])
def test_a_spool_that_asterisk_cannot_write(tmp_path: Path, mode: int) -> None:
    """Asterisk is neither its owner nor, by a number that stands for a group, in its group; then it is."""
    tmp_path.chmod(mode)
    found = recording_checks.shared_folder("spool", tmp_path, SOMEBODY, "x")
    assert found.state is State.FAIL
    assert f"not writable by Asterisk ({SOMEBODY})" in found.text
    assert recording_checks.shared_folder("spool", tmp_path, None, "x").state is State.OK


@pytest.mark.parametrize(
    ("free", "state"), [(9.9, State.FAIL), (10.0, State.WARN), (19.9, State.WARN), (20.0, State.OK)]
)
def test_room_of_the_spool(tmp_path: Path, free: float, state: State) -> None:
    """R42: below recording.min_free_percent new calls go on unrecorded."""
    found = recording_checks.room(tmp_path, free, 10)
    assert found.state is state
    assert f"{free:.0f} % free, new calls are recorded from 10 %" in found.text


def test_a_spool_beside_the_journal(site: Site) -> None:
    """design.md: a spool that fills up must not take the journal's room."""
    (site.folder / "spool").mkdir()
    site.replace(f'spool_dir = "{site.spool}"', f'spool_dir = "{site.folder}/spool"')
    assert site.findings()["filesystems"][0] == "fail"


def test_a_vault_that_is_missing(site: Site) -> None:
    (site.folder / "vault").rmdir()
    assert site.findings()["vault"][:2] == ("warn", f"{site.folder}/vault is not there yet")
    (site.folder / "vault").write_text("no folder")
    assert site.findings()["vault"][0] == "fail"


def test_a_vault_that_others_may_look_into(site: Site) -> None:
    (site.folder / "vault").chmod(0o755)
    assert site.findings()["vault"][0] == "warn"


def test_nothing_speaks_and_calls_go_on(site: Site) -> None:
    """R91: a warning, since WAV files of the operator's do as well."""
    site.replace('engine = "espeak-ng"', 'engine = "none"')
    found = site.findings()
    assert found["speech"][0] == "warn"
    assert "espeak-ng" in found["speech"][2]
    assert found["prompts"][0] == "ok"


def test_an_engine_that_does_not_speak_the_language(site: Site) -> None:
    site.replace('engine = "espeak-ng"', 'engine = "flite"')
    assert site.findings()["speech"][:2] == ("warn", "flite does not speak ru")


def test_a_consent_prompt_that_is_not_ready(site: Site) -> None:
    """C4: who cannot be asked is not recorded; half a file does not count, another language does."""
    (site.prompts / "consent_opt_in-ru-0123456789abcdef.alaw").write_bytes(b"")
    state, text, _ = site.findings()["prompts"]
    assert (state, text.startswith("consent_opt_in.ru not ready")) == ("fail", True)
    site.prompt(f"consent_opt_in-{prompts.FALLBACK_LANGUAGE}-0123456789abcdef")
    assert site.findings()["prompts"][0] == "ok"


def test_another_prompt_that_is_not_ready(site: Site) -> None:
    site.operator.apply(RECORDING.replace('language = "ru"', 'language = "ru"\ntell_agent = true'))
    state, text, _ = site.findings()["prompts"]
    assert (state, text.startswith("agent_told.ru not ready")) == ("warn", True)


def test_what_agents_hear_of_codes_is_missed_only_where_it_is_said(site: Site) -> None:
    """The question for the result of a call-back is asked by a setting; what is needed most is named first."""
    phone = '[[agent]]\nkey = "kim"\nendpoint = "desk"\n[local]\ncontexts = ["from-phones"]\n'
    site.operator.apply(RECORDING + phone)
    state, text, _ = site.findings()["prompts"]
    assert (state, text.startswith("break_off.")) == ("warn", True)
    language = text.partition(" ")[0].strip(",").partition(".")[2]
    for key in callingback.PROMPTS - {callingback.RESULT_PROMPT}:
        site.prompt(f"{key}-{language}-0123456789abcdef")
    assert site.findings()["prompts"][0] == "ok"
    site.operator.config.write_text(f"{site.operator.config.read_text()}[callbacks]\nkeyed_result = true\n")
    state, text, _ = site.findings()["prompts"]
    assert (state, text.startswith("callback_result.")) == ("warn", True)


def test_prompts_that_asterisk_cannot_reach(tmp_path: Path) -> None:
    """A state folder of mode 0750 is closed to Asterisk, whatever the folder in it says."""
    state = tmp_path / "state"
    (state / "prompts").mkdir(parents=True)
    tmp_path.chmod(0o755)
    state.chmod(0o750)
    found = [*recording_checks.readable_for_asterisk(state / "prompts", SOMEBODY)]
    wrong = {re.search(r"/\S+", one.text)[0] for one in found if one.state is State.FAIL}  # type: ignore[index]  # a path
    assert len(found) == 1
    assert wrong and not wrong & {str(state / "prompts")}
    assert [*recording_checks.readable_for_asterisk(state / "prompts", 0)] == []


def test_no_music(site: Site) -> None:
    (site.folder / "data" / "dialmark" / "ring" / "x.ulaw").unlink()
    state, text, advice = site.findings()["music class ring"]
    assert (state, "wait in silence" in text, "dialmark init --write" in advice) == ("fail", True, True)
    site.operator.apply(ROUTING)
    assert site.findings()["music class ring"][0] == "warn"


@pytest.mark.parametrize(("text", "state"), [("not a key\n", "fail"), ("A" * 43 + "=\n", "ok")])
def test_the_signing_key(site: Site, text: str, state: str) -> None:
    """N3: receipts are worth as much as this key."""
    key = site.folder / "receipts.key"
    key.write_text(text)
    key.chmod(0o600)
    assert site.findings()["signing key"][0] == state
    key.chmod(0o640)
    assert "chmod 600" in site.findings()["signing key"][1]


@pytest.mark.parametrize("held", [None, "/elsewhere"])
def test_the_loaded_plan_records_elsewhere(site: Site, held: str | None) -> None:
    settings = context.settings(site.operator.config)
    found = recording_checks.spool_in_asterisk(held, settings, is_wanted=True)
    assert found is not None
    assert found.state is State.FAIL
    assert recording_checks.spool_in_asterisk(held, settings, is_wanted=False) is None
    assert recording_checks.spool_in_asterisk(str(site.spool), settings, is_wanted=True) is None


def test_the_other_filesystem_is_one(tmp_path: Path) -> None:
    assert host_checks.separate_filesystems(tmp_path, OTHER_FILESYSTEM).state is State.OK

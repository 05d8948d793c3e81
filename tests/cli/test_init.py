"""`init`: nothing without --write, nothing twice, nobody's edit overwritten; and a real Asterisk takes the result."""

from __future__ import annotations

import re
import shutil
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.cli import init, installation, recording_setup
from gateway.config import settings as reading
from gateway.core import tones
from gateway.pbx import journal
from gateway.store import keyring
from tests.cli.conftest import Operator
from tests.rig import AsteriskNode

STOCK = {
    "asterisk.conf": "[directories]\nastlogdir => {folder}/log\nastspooldir => {folder}/spool\n"
    "astdatadir => {folder}/data\n[options]\nsystemname = pbx-1\n",
    "extensions.conf": "[general]\nstatic=yes\nclearglobalvars=no\n\n[globals]\nMINE=1\n\n"
    "[from-pbx]\nexten => 100,1,Hangup()\n#include extra.conf",
    "pjsip.conf": "[transport-udp]\ntype=transport\nprotocol=udp\nbind=0.0.0.0\n[tmpl](!)\ntype=endpoint\n",
    "manager.conf": "[general]\nenabled = yes\nport = 5038\nbindaddr = 127.0.0.1\n",
    "cel.conf": "; ours\n[general]\nenable=yes\napps=dial,park\nevents=ALL\n",
    "features.conf": "[general]\n[featuremap]\nblindxfer = #1\n[applicationmap]\nmine = *9,self,Playback,beep\n",
    "indications.conf": "[general]\ncountry = us\n",
    "cel_custom.conf": "[mappings]\nMaster.csv => ${CSV_QUOTE(${eventtype})}\n",
    "modules.conf": "[modules]\nautoload=yes\n",
}


class Site:
    """A PBX that is there already."""

    def __init__(self, operator: Operator, folder: Path) -> None:
        self.folder = folder
        self.etc = folder / "asterisk"
        self.etc.mkdir()
        (folder / "log" / "cel-custom").mkdir(parents=True)
        (folder / "spool").mkdir()
        for name, text in STOCK.items():
            (self.etc / name).write_text(text.replace("{folder}", str(folder)))
        self._operator = operator

    @property
    def directories(self) -> str:
        """Of asterisk.conf: without them init would look at this machine's own."""
        return STOCK["asterisk.conf"].partition("[options]")[0].replace("{folder}", str(self.folder))

    def init(self, *more: str, code: int = 0) -> str:
        said = self._operator(
            "init",
            *("--config-dir", self.folder / "config", "--state-dir", self.folder / "state"),
            *("--asterisk-dir", self.etc),
            *more,
            code=code,
        )
        return said.out + said.err

    def snapshot(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in self.folder.rglob("*.conf*")}

    def set(self, name: str, text: str) -> None:
        (self.etc / name).write_text(text)


@pytest.fixture
def site(operator: Operator, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(operator, tmp_path_factory.mktemp("site"))


def test_without_write_everything_is_shown_and_nothing_written(site: Site) -> None:
    before = site.snapshot()
    said = site.init()
    assert site.snapshot() == before
    assert not (site.folder / "config").exists()
    assert f"+++ {site.etc}/extensions.conf" in said
    assert "+#tryinclude dialmark.d/extensions.conf" in said
    assert "+#tryinclude dialmark/dialmark_pjsip.conf" in said
    assert "Nothing was: add --write." in said


def test_with_write_sites_files_get_one_line_and_a_backup(site: Site) -> None:
    before = site.snapshot()
    said = site.init("--write")
    for name in ("extensions.conf", "pjsip.conf", "manager.conf", "cel_custom.conf"):
        text = (site.etc / name).read_text()
        old = before[f"asterisk/{name}"].decode()
        assert text.startswith(old)
        added = [line for line in text[len(old) :].splitlines() if line and not line.startswith(";")]
        assert len(added) == 1
        assert added[0].startswith("#tryinclude dialmark")
        assert (site.etc / f"{name}.before-dialmark").read_bytes() == before[f"asterisk/{name}"]
    assert (site.etc / "modules.conf").read_bytes() == before["asterisk/modules.conf"]
    token = re.search(r"^dm_[0-9a-f]+$", said, re.MULTILINE)
    assert token is not None


def test_a_second_time_changes_nothing(site: Site) -> None:
    site.init("--write")
    before = site.snapshot()
    said = site.init("--write")
    assert site.snapshot() == before
    assert "Nothing is left to write." in said
    assert "dm_" not in said


def test_secrets_are_closed_and_not_shown(site: Site) -> None:
    said = site.init("--write")
    secret_file = site.folder / "config" / "ami.secret"
    secret = secret_file.read_text().strip()
    assert len(secret) >= 32
    assert secret not in said
    account = site.etc / "dialmark.d" / "manager.conf"
    assert f"secret = {secret}" in account.read_text()
    for path in (secret_file, account):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    # What was shown before is still the secret.
    site.init("--write")
    assert secret_file.read_text().strip() == secret


def test_edited_files_of_ours_are_left_alone(site: Site) -> None:
    site.init("--write")
    ours = site.etc / "dialmark.d" / "inbound.conf"
    ours.write_text(ours.read_text().replace("1.5", "2.5"))
    edited = ours.read_text()
    said = site.init("--write")
    assert ours.read_text() == edited
    assert "was edited by hand and is left alone" in said


def test_unedited_files_of_ours_are_brought_up_to_date(site: Site) -> None:
    site.init("--write")
    ours = site.etc / "dialmark.d" / "inbound.conf"
    current = ours.read_text()
    ours.write_text(installation.sealed("; of an older version\n"))
    site.init("--write")
    assert ours.read_text() == current


def test_settings_are_never_overwritten(site: Site) -> None:
    site.init("--write")
    settings = site.folder / "config" / "dialmark.toml"
    settings.write_text(settings.read_text() + "[agi]\nport = 4999\n")
    kept = settings.read_text()
    said = site.init("--write")
    assert settings.read_text() == kept
    assert "is kept as it is" in said
    assert "DM_AGI = 127.0.0.1:4999" in (site.etc / "dialmark.d" / "extensions.conf").read_text()


def test_global_settings_of_cel_are_said_plainly(site: Site) -> None:
    site.set("cel.conf", "[general]\nenable=no\nevents=APP_START,CHAN_START\ndateformat = %F %T\n[radius]\nx=1\n")
    said = site.init("--write")
    assert said.count("* GLOBAL: ") == 4
    text = (site.etc / "cel.conf").read_text()
    assert "enable = yes" in text
    assert "APP_START,CHAN_START,CHAN_END" in text
    assert "; dateformat = %F %T" in text
    assert text.endswith("[radius]\nx=1\n")


def test_modules_that_are_not_loaded(site: Site) -> None:
    site.set("modules.conf", "[modules]\nautoload=no\nload = app_dial.so\n")
    site.init("--write")
    text = (site.etc / "modules.conf").read_text()
    assert "load = app_celgenuserevent.so" in text
    assert text.count("load = app_dial.so") == 1

    site.set("modules.conf", "[modules]\nautoload=yes\nnoload = cel_custom.so\n")
    assert "keeps modules from loading that Dialmark needs: cel_custom.so" in site.init()


def test_other_settings_that_matter_are_noticed(site: Site) -> None:
    (site.folder / "log" / "cel-custom").rmdir()
    site.set("asterisk.conf", f"{site.directories}[options]\nlive_dangerously = yes\n")
    site.set("manager.conf", "[general]\nenabled = no\nbindaddr = 0.0.0.0\n")
    site.set("extensions.conf", "[general]\nclearglobalvars = yes\n")
    said = site.init()
    for expected in (
        *("no systemname", "live_dangerously", "AMI is off", "binds AMI to 0.0.0.0", "clearglobalvars"),
        *("cdr.conf is left alone", "features.conf keeps your [featuremap]", "cel-custom is missing"),
    ):
        assert expected in said


def test_freepbx_gets_its_lines_where_it_does_not_overwrite_them(site: Site) -> None:
    names = ("extensions", "manager", "pjsip", "musiconhold")
    for name in names:
        site.set(f"{name}.conf", f"; generated\n#include {name}_custom.conf\n[general]\nenabled = yes\n")
        site.set(f"{name}_custom.conf", "; mine\n")
    site.set("features.conf", "[applicationmap]\n#include features_applicationmap_custom.conf\n")
    site.set("features_applicationmap_custom.conf", "")
    site.init("--write")
    assert "dialmark" not in (site.etc / "features.conf").read_text()
    custom = (site.etc / "features_applicationmap_custom.conf").read_text()
    assert "#tryinclude dialmark.d/applicationmap.conf" in custom
    for name in names:
        assert "dialmark" not in (site.etc / f"{name}.conf").read_text()
        assert "#tryinclude dialmark" in (site.etc / f"{name}_custom.conf").read_text()


def test_text_that_is_not_utf8_survives(site: Site) -> None:
    path = site.etc / "extensions.conf"
    path.write_bytes(b"[general]\n; caf\xe9\n")
    site.init("--write")
    assert path.read_bytes().startswith(b"[general]\n; caf\xe9\n")


def test_a_link_stays_a_link(site: Site) -> None:
    real = site.folder / "real.conf"
    (site.etc / "extensions.conf").rename(real)
    (site.etc / "extensions.conf").symlink_to(real)
    site.init("--write")
    assert (site.etc / "extensions.conf").is_symlink()
    assert "dialmark.d" in real.read_text()


def test_recordings_get_their_ring_and_folders(site: Site) -> None:
    """R33, R42: who may enter which folder, and a ring that only the daemon reads."""
    said = site.init("--write")
    settings = reading.load(site.folder / "config" / "dialmark.toml", {})
    modes = {
        settings.recording.spool_dir: 0o2770,
        settings.vault.dir: 0o700,
        settings.prompts.dir: 0o755,
        settings.prompts.own_dir: 0o755,
        site.folder / "state": 0o751,
        site.folder / "state" / "dialmark.db": 0o640,
    }
    assert {path: stat.S_IMODE(path.stat().st_mode) for path in modes} == modes
    assert settings.recording.spool_dir == site.folder / "spool" / "dialmark"
    assert settings.recording.signing_key_file == site.folder / "state" / "receipts.key"
    ring_file = site.folder / "config" / "vault.keys"
    assert settings.vault.keys_file == ring_file
    assert stat.S_IMODE(ring_file.stat().st_mode) == 0o600
    (key,) = keyring.parse(ring_file.read_text()).keys.values()
    assert len(key) == 32
    assert ring_file.read_text().split()[-2] not in said
    assert f"KEEP A COPY of {ring_file}" in said


def test_a_dry_run_makes_no_key(site: Site) -> None:
    said = site.init()
    assert re.search(r"(?m)^\+\d{4}-\d\d  \*{8}  current$", said)
    assert f"+++ {site.folder}/spool/dialmark/  (folder, mode 2770" in said
    assert "KEEP A COPY of" not in said
    assert not (site.folder / "spool" / "dialmark").exists()


@pytest.mark.parametrize("text", ["2026-01  c2hvcnQ=\n", None])
def test_a_ring_that_is_there_is_never_overwritten(site: Site, text: str | None) -> None:
    """R33: a whole one or a broken one; another would not open what the first has locked."""
    site.init("--write")
    ring_file = site.folder / "config" / "vault.keys"
    if text is not None:
        ring_file.write_text(text)
    before = ring_file.read_bytes()
    said = site.init("--write")
    assert ring_file.read_bytes() == before
    assert ("is no usable key ring" in said) == (text is not None)
    assert ("is kept as it is" in said.partition("vault.keys, the ring")[2]) == (text is None)


def test_no_second_ring_where_the_first_is_lost(site: Site) -> None:
    """R33: a new ring would hide that the copy must be put back."""
    site.init("--write")
    ring_file = site.folder / "config" / "vault.keys"
    ring = keyring.parse(ring_file.read_text())
    wrapped = ring.wrap(bytes(32), "secret:erasure")
    with sqlite3.connect(site.folder / "state" / "dialmark.db") as database:
        database.execute(
            "INSERT INTO vault_secrets (name, key_id, wrapped) VALUES (?, ?, ?)",
            ("erasure", wrapped.key_id, wrapped.data),
        )
    ring_file.unlink()
    said = site.init("--write")
    assert f"{ring_file} IS GONE, and recordings are locked by its keys ({ring.current}: 1)" in said
    assert not ring_file.exists()


def test_a_ring_that_systemd_holds_is_enough(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    store = site.folder / "credstore"
    store.mkdir()
    (store / "vault.keys").write_text("")
    monkeypatch.setattr(recording_setup, "CREDENTIAL_STORES", (store,))
    assert "comes from outside (a credential" in site.init("--write")
    assert not (site.folder / "config" / "vault.keys").exists()


def test_settings_from_before_recordings_get_a_ring_and_the_line_to_add(site: Site) -> None:
    site.init("--write")
    settings = site.folder / "config" / "dialmark.toml"
    settings.write_text(re.sub(r"(?m)^keys_file.*\n", "", settings.read_text()))
    (site.folder / "config" / "vault.keys").unlink()
    said = site.init("--write")
    assert f'add keys_file = "{site.folder}/config/vault.keys" below [vault]' in said
    assert keyring.parse((site.folder / "config" / "vault.keys").read_text()).keys


def test_the_ringing_is_that_of_the_country_and_an_own_one_stays(site: Site) -> None:
    ring = site.folder / "data" / "dialmark" / "ring"
    ring.mkdir(parents=True)
    (ring / "ring.alaw").write_bytes(b"own")
    said = site.init("--write")
    assert (ring / "ring.alaw").read_bytes() == b"own"
    assert (ring / "ring.ulaw").read_bytes() == tones.ulaw(tones.ringing("us"))
    assert "ringing of zone us, 6 s" in said


def test_music_pause_key_and_detection(site: Site) -> None:
    """C4: a section of the site's stays whole, and gets our line inside."""
    site.init("--write")
    features = (site.etc / "features.conf").read_text()
    section = features.partition("[applicationmap]")[2]
    assert "#tryinclude dialmark.d/applicationmap.conf" in section
    assert section.endswith("mine = *9,self,Playback,beep\n")
    assert "dialmark-pause" in (site.etc / "dialmark.d" / "applicationmap.conf").read_text()
    assert "#tryinclude dialmark.d/musiconhold.conf" in (site.etc / "musiconhold.conf").read_text()
    assert "[ring]" in (site.etc / "dialmark.d" / "musiconhold.conf").read_text()
    assert (site.etc / "dialmark.d" / "services.conf").exists()


def test_the_journal_gets_the_rows_that_receipts_rest_on(site: Site) -> None:
    said = site.init("--write")
    text = (site.etc / "cel.conf").read_text()
    assert "apps = dial,park,mixmonitor,stopmixmonitor" in text
    assert "logs no start of mixmonitor, stopmixmonitor" in said
    site.set("cel.conf", STOCK["cel.conf"].replace("dial,park", "all"))
    before = site.snapshot()["asterisk/cel.conf"]
    site.init("--write")
    assert site.snapshot()["asterisk/cel.conf"] == before


def test_the_old_form_of_the_journal(site: Site) -> None:
    site.init("--write", "--legacy-journal")
    text = (site.etc / "dialmark.d" / "cel_custom.conf").read_text()
    assert f"dialmark.csv => {journal.LEGACY_MAPPING}" in text


def test_our_own_asterisk_gets_only_the_secret(site: Site) -> None:
    for name, text in init.shipped_texts().items():
        site.set(name, text)
    site.set("asterisk.conf", site.directories + (site.etc / "asterisk.conf").read_text())
    before = site.snapshot()
    site.init("--write")
    after = site.snapshot()
    assert (site.folder / "data" / "dialmark" / "ring" / "ring.alaw").stat().st_size == 40_000
    assert set(after) - set(before) == {"asterisk/manager_site.conf"}
    assert b"[dialmark](+)\nsecret = " in after["asterisk/manager_site.conf"]
    assert "Nothing is left to write." in site.init("--write")


@pytest.mark.parametrize("what", ["missing", "file"])
def test_a_wrong_asterisk_folder(operator: Operator, tmp_path: Path, what: str) -> None:
    place = tmp_path / what
    if what == "file":
        place.write_text("")
    said = operator("init", "--asterisk-dir", place, "--config-dir", tmp_path, code=2)
    assert "name Asterisk's configuration folder" in said.err


def test_a_real_asterisk_takes_what_init_wrote(
    operator: Operator, make_node: Callable[..., AsteriskNode], tmp_path: Path
) -> None:
    """A PBX with its own [general] and [globals]: our globals reach it, its own stay; `doctor` agrees."""
    stock = {"extensions.conf": STOCK["extensions.conf"].replace("#include extra.conf", "")}
    kept = {name: STOCK[name] for name in ("cel_custom.conf", "features.conf")}
    node = make_node(dialplan=stock, files={**kept, "musiconhold.conf": "[general]\n"})
    config = tmp_path / "dm"
    arguments = ("init", "--config-dir", config, "--state-dir", tmp_path / "state", "--asterisk-dir", node.etc)
    operator(*arguments, "--write")
    (config / "ami.secret").write_text(node.ami_secret)
    for path in node.etc.rglob("*"):
        shutil.chown(path, node.etc.stat().st_uid, node.etc.stat().st_gid)
    node.start()
    held = node.cli("dialplan show globals")
    for expected in ("MINE=1", "DM_AGI=127.0.0.1:4573", "DM_AGI_OFF_SECONDS=5", "DM_DROPPED_MILLISECONDS=500"):
        assert expected in held
    for context in ("dialmark-inbound", "dialmark-act", "dialmark-outbound", "from-pbx"):
        assert context in node.cli(f"dialplan show {context}")
    assert "dialmark.csv" in (node.etc / "dialmark.d" / "cel_custom.conf").read_text()
    assert re.search(r"(?m)^dialmark-pause .*\*2 *$", node.cli("features show"))
    for music in ("ring", "wait"):
        assert f"Class: {music}" in node.cli("moh show classes")
    complaints = [line for line in (node.log / "messages.log").read_text().splitlines() if " ERROR" in line]
    assert complaints == []

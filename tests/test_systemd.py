"""Units and folders of `systemd/`, read by systemd's own tool and held against the settings' defaults."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.config import settingsections
from tests.rig.asterisk import ROOT

SYSTEMD = ROOT / "systemd"
DROP_IN = SYSTEMD / "asterisk.service.d" / "dialmark.conf"
SERVICES = sorted(SYSTEMD.glob("*.service"))
SPOOL = settingsections.Recording().spool_dir
HARDENING = (
    *("NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes"),
    *("PrivateDevices=yes", "RestrictNamespaces=yes", "RestrictSUIDSGID=yes", "LockPersonality=yes"),
    *("MemoryDenyWriteExecute=yes", "SystemCallFilter=@system-service", "SystemCallFilter=~@privileged @resources"),
)


def values(path: Path, key: str) -> list[str]:
    return re.findall(rf"(?m)^{key}=(.*)$", path.read_text())


def folders() -> dict[str, tuple[str, str, str]]:
    """Mode, user and group of each folder that systemd-tmpfiles makes."""
    lines = re.findall(r"(?m)^d (\S+) +(\d{4}) (\S+) (\S+) -$", (SYSTEMD / "dialmark.tmpfiles").read_text())
    return {path: (mode, user, group) for path, mode, user, group in lines}


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Copies whose programs exist on any machine, beside an asterisk.service with our drop-in."""
    for path in SYSTEMD.iterdir():
        if path.suffix in (".service", ".timer", ".path"):
            text = re.sub(r"(?m)^(Exec\w+=)/\S+", r"\1/bin/true", path.read_text())
            (tmp_path / path.name).write_text(text)
    (tmp_path / "asterisk.service").write_text("[Service]\nExecStart=/bin/true\n")
    shutil.copytree(DROP_IN.parent, tmp_path / DROP_IN.parent.name)
    return tmp_path


def verify(units: Path) -> str:
    """What systemd-analyze complains of; its exit code says nothing of lines that it ignores."""
    names = [f"./{path.name}" for path in sorted(units.iterdir()) if path.is_file()]
    assert len(names) > 5
    done = subprocess.run(["systemd-analyze", "verify", *names], cwd=units, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_systemd_takes_every_unit(units: Path) -> None:
    assert verify(units) == ""


def test_systemd_would_complain(units: Path) -> None:
    """So that the test above can fail."""
    timer = units / "dialmark-retention.timer"
    timer.write_text(timer.read_text().replace("Persistent=true", "Persistent=daily"))
    assert "Failed to parse boolean value" in verify(units)


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_every_service_is_hardened(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert [line for line in HARDENING if line not in lines] == []


def test_the_ring_is_a_credential_that_may_be_missing() -> None:
    """C4: without a ring calls go on, unrecorded; a path would make a missing file an error of the start."""
    service = SYSTEMD / "dialmark.service"
    assert values(service, "LoadCredential") == values(service, "LoadCredentialEncrypted") == ["vault.keys"]
    assert "keys" in settingsections.Vault.model_fields


def test_children_of_the_daemon_may_limit_themselves() -> None:
    """`os.nice` and `resource.setrlimit` in gateway/pbx/promptaudio.py; systemd's group @resources holds both."""
    refused = subprocess.run(["systemd-analyze", "syscall-filter", "@resources"], capture_output=True, text=True).stdout
    allowed = values(SYSTEMD / "dialmark.service", "SystemCallFilter")[-1].split()
    for call in ("setpriority", "setrlimit"):
        assert call in refused.split()
        assert call in allowed


def test_the_spool_is_shared_and_writable_for_both() -> None:
    assert folders()[str(SPOOL)] == ("2770", "asterisk", "asterisk")
    for unit in (SYSTEMD / "dialmark.service", DROP_IN):
        (paths,) = values(unit, "ReadWritePaths")
        assert f"-{SPOOL}" in paths.split()


def test_vault_and_prompts_lie_in_the_state_folder() -> None:
    """Writable as StateDirectory; Asterisk passes through to the prompts and cannot look into the vault."""
    assert folders()[str(settingsections.Vault().dir)] == ("0700", "dialmark", "dialmark")
    assert folders()[str(settingsections.Prompts().dir)] == ("0755", "dialmark", "dialmark")
    assert folders()["/var/lib/dialmark"] == ("0751", "dialmark", "dialmark")
    assert settingsections.Recording().signing_key_file.parent == Path("/var/lib/dialmark")
    for unit in (SYSTEMD / "dialmark.service", SYSTEMD / "dialmark-retention.service"):
        assert values(unit, "StateDirectory") == ["dialmark"]
        assert values(unit, "StateDirectoryMode") == ["0751"]


def test_what_must_go_goes_daily() -> None:
    """R34, N10."""
    timer = SYSTEMD / "dialmark-retention.timer"
    assert values(timer, "OnCalendar") == ["*-*-* 03:30:00"]
    assert values(timer, "RandomizedDelaySec") == ["1h"]
    assert values(timer, "Persistent") == ["true"]
    (command,) = values(SYSTEMD / "dialmark-retention.service", "ExecStart")
    assert command.split()[1:3] == ["retention", "run"]

"""What `init` prepares for recordings: the ring of keys, the folders that sound passes through, and who may enter them.

spool   2770, Asterisk's owner and group, which the daemon is in: both write, nobody else looks in
vault   0700, the daemon's
prompts 0755, the daemon's: Asterisk reads what is played to callers
ring    0600, the daemon's; never overwritten, since without it no recording can ever be opened
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli import installation

if TYPE_CHECKING:
    from gateway.config.settings import Settings

RING_FILE = "vault.keys"
CREDENTIAL_STORES = (Path("/etc/credstore"), Path("/etc/credstore.encrypted"))
"""Where systemd looks for the credential `vault.keys` of dialmark.service."""
SPOOL_MODE, VAULT_MODE, PROMPTS_MODE = 0o2770, 0o700, 0o755
MASK = "********"

_RING_TEXT = """\
# The keys of the vault: id, 32 random bytes in base64, `current` on the one that locks new recordings.
# KEEP A COPY OF THIS FILE AWAY FROM THE MACHINE. Without it no recording can ever be opened again, by nobody.
# Another key: dialmark recordings new-key NAME. See docs/recordings.md.
{line}
"""
_DIALPLAN_PATH = re.compile(r"/[A-Za-z0-9_./-]*")
SPOOL_LONGEST, PROMPTS_LONGEST = 128, 64
"""Characters of paths that stand in the dialplan (`gateway.config.settingsections`)."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything of recordings lies on this machine."""

    ring: Path | None
    """None: the ring comes from outside, as a credential or by the environment."""
    spool: Path
    vault: Path
    prompts: Path
    own_prompts: Path


def places(settings: Settings) -> Places:
    """Those of existing settings."""
    return Places(
        settings.vault.keys_file,
        settings.recording.spool_dir,
        settings.vault.dir,
        settings.prompts.dir,
        settings.prompts.own_dir,
    )


def new_places(config_dir: Path, state_dir: Path, etc: Path | None) -> Places:
    """Those of a machine that has no settings yet."""
    spool = installation.spool_folder(etc) if etc is not None else Path("/var/spool/asterisk")
    return Places(
        config_dir / RING_FILE,
        spool / "dialmark",
        state_dir / "recordings",
        state_dir / "prompts",
        config_dir / "prompts",
    )


def settings_text(chosen: Places, state_dir: Path) -> str:
    """Their sections of dialmark.toml. A path that is too long to travel in plans is left out."""
    lines = ["[vault]", f'dir = "{chosen.vault}"', *_ring_lines(chosen.ring), "", "[recording]"]
    lines += [f'spool_dir = "{chosen.spool}"'] if travels(chosen.spool, SPOOL_LONGEST) else []
    lines += [f'signing_key_file = "{state_dir}/receipts.key"', "", "[prompts]"]
    lines += [f'dir = "{chosen.prompts}"'] if travels(chosen.prompts, PROMPTS_LONGEST) else []
    return "\n".join([*lines, f'own_dir = "{chosen.own_prompts}"', ""])


def travels(path: Path, longest: int) -> bool:
    """Whether a folder may stand in the dialplan."""
    return len(str(path)) <= longest and _DIALPLAN_PATH.fullmatch(str(path)) is not None


def cannot_travel(chosen: Places) -> Iterator[Path]:
    """Folders that `settings_text` leaves out."""
    for path, longest in ((chosen.spool, SPOOL_LONGEST), (chosen.prompts, PROMPTS_LONGEST)):
        if not travels(path, longest):
            yield path


def _ring_lines(ring: Path | None) -> Iterator[str]:
    if ring is not None:
        yield "# Keep a copy of this file away from the machine: without it no recording can ever be opened."
        yield f'keys_file = "{ring}"'


def folders(chosen: Places, *, with_spool: bool) -> list[installation.Folder]:
    """Folders to be made; those that are there are left as they are (`doctor` looks at their rights)."""
    wanted = [
        installation.Folder(chosen.vault, VAULT_MODE, "the vault: encrypted recordings"),
        installation.Folder(chosen.prompts, PROMPTS_MODE, "prompts, readable by Asterisk"),
        installation.Folder(chosen.own_prompts, PROMPTS_MODE, "your own KEY.LANGUAGE.wav and LANGUAGE.toml"),
    ]
    if with_spool:
        use = "the spool: Asterisk writes sound, Dialmark takes it away"
        wanted.insert(0, installation.Folder(chosen.spool, SPOOL_MODE, use, _above(chosen.spool)))
    return [folder for folder in wanted if not folder.path.is_dir()]


def ring(ring_file: Path, now: datetime, *, is_dry: bool) -> tuple[installation.Change, str]:
    """The first ring, and the key in it, which must not be shown. Only for a file that is not there."""
    from gateway.store import keyring

    line = f"{now:%Y-%m}  {MASK}  {keyring.CURRENT}" if is_dry else keyring.new_line(f"{now:%Y-%m}")
    return installation.Change(ring_file, None, _RING_TEXT.format(line=line), 0o600), "" if is_dry else line.split()[1]


def is_credential() -> bool:
    """Whether the daemon gets its ring from systemd, which no command sees."""
    return any((store / RING_FILE).exists() for store in CREDENTIAL_STORES)


def problem_of(ring_file: Path) -> str | None:
    """What is wrong with a ring that is there; None when it is whole, or not for our eyes."""
    from gateway.store import keyring

    try:
        keyring.parse(ring_file.read_text(encoding="utf-8"))
    except PermissionError:
        return None
    except (OSError, UnicodeDecodeError, keyring.KeyRingError) as error:
        return f"{ring_file} is no usable key ring ({error}); it is left as it is: put your copy back"
    return None


def _above(path: Path) -> Path:
    """The nearest folder above that exists."""
    return next(folder for folder in path.parents if folder.exists())

"""What an Asterisk that is there already must include: computed as new texts of its files, shown as a diff.

Files are treated as text, so that templates, comments and includes of any PBX survive. Our own files live in
`dialmark.d/` below Asterisk's configuration folder and carry a seal, so that a later `init` knows which of them were
edited: those are left alone. The site's files get one line each.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.core import tones

FOLDER = "dialmark.d"
"""Our files, below Asterisk's configuration folder."""

SEAL = "; Installed by `dialmark init`, seal "
_SEAL_LINE = re.compile(rf"{re.escape(SEAL)}([0-9a-f]{{16}})[^\n]*\n")
_INCLUDE = re.compile(r"(?m)^(#(?:try)?include )([^\s/]+)$")
_SECTION = re.compile(r"\s*\[([^\]]+)\]")
GENERATED = ("dialmark_plan.conf", "dialmark_trunks.conf", "dialmark_pjsip.conf")
PAUSE_KEY = "applicationmap.conf"
"""Our lines for `[applicationmap]` of features.conf, without the section's head: it is included inside that section."""

NEEDED = (
    *("app_", "func_", "cel_", "format_", "bridge_builtin", "res_cdrel", "res_agi", "res_speech", "res_musiconhold"),
    "res_pjsip_header",
)
"""Beginnings of the modules that Dialmark cannot do without, whatever else a PBX loads."""
SOUND_FORMS = {"ulaw": tones.ulaw, "alaw": tones.alaw}
"""Files of the music classes, by extension."""


@dataclass(frozen=True, slots=True)
class Change:
    """One file to be made or changed. `old` is None for a new one; `mode` only for files that hold secrets."""

    path: Path
    old: str | None
    new: str
    mode: int | None = None
    about: str = ""
    """Shown in place of the text, for what nobody reads: sound."""


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder to be made. `use` says what for; `like` is the folder whose owner and group it gets, None: the
    daemon's own."""

    path: Path
    mode: int
    use: str
    like: Path | None = None
    is_daemons: bool = False
    """Whether the daemon owns it all the same, and only the group is shared."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the installation depends on besides Asterisk's files.

    `generated` is the folder of the daemon's generated files as Asterisk includes it (relative to its configuration
    folder, or absolute). `agi` is `host:port`. `ami_secret` "" leaves manager files alone.
    """

    generated: str
    agi: str
    ami_user: str
    ami_secret: str
    legacy_mapping: str | None = None
    """Columns of the journal for Asterisk before 22.9; None writes the DSV form."""


@dataclass(slots=True)
class Installation:
    """The result: changes in the order of writing, and what an administrator should know, in plain words."""

    changes: list[Change] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)


def plan(etc: Path, shipped: Mapping[str, str], choices: Choices) -> Installation:
    """Compare Asterisk's folder `etc` with what Dialmark needs there. Reads files, writes none.

    `shipped` are our texts by name: the dialplan (`inbound.conf`, …) and `asterisk/` (`cel.conf`, `modules.conf`).
    """
    made = Installation()
    if is_standalone(etc):
        made.notices.append(f"{etc} is Dialmark's own Asterisk (its extensions.conf includes inbound.conf)")
        _standalone_secret(made, etc, choices)
        _ringing(made, etc)
        return made
    _own_files(made, etc, shipped, choices)
    _dialplan(made, etc)
    _sip(made, etc, choices)
    _manager(made, etc, choices)
    _journal(made, etc, shipped, choices)
    _pause_key(made, etc, shipped)
    _machines(made, etc, shipped)
    _include(made, _custom(etc, "musiconhold.conf"), "musiconhold.conf")
    _ringing(made, etc)
    _modules(made, etc, shipped)
    _look_around(made, etc)
    return made


def log_folder(etc: Path) -> Path:
    """Asterisk's log folder."""
    return Path(_value(_read(etc / "asterisk.conf") or "", "directories", "astlogdir") or "/var/log/asterisk")


def spool_folder(etc: Path) -> Path:
    """Asterisk's spool folder."""
    return Path(_value(_read(etc / "asterisk.conf") or "", "directories", "astspooldir") or "/var/spool/asterisk")


def data_folder(etc: Path) -> Path:
    """Asterisk's data folder: as written, else the one of Debian's package, else that of a build from source."""
    written = _value(_read(etc / "asterisk.conf") or "", "directories", "astdatadir")
    return Path(written or ("/usr/share/asterisk" if Path("/usr/share/asterisk").is_dir() else "/var/lib/asterisk"))


def ring_folder(etc: Path) -> Path:
    """Folder of the music class `ring`, as our musiconhold.conf names it."""
    return data_folder(etc) / "dialmark" / "ring"


def port(etc: Path) -> int:
    """AMI's port."""
    written = _value(_read(etc / "manager.conf") or "", "general", "port") or ""
    return int(written) if written.isascii() and written.isdigit() else 5038


def is_standalone(etc: Path) -> bool:
    """Whether Asterisk runs from our own files already, as a package or the demo installs them."""
    return bool(
        re.search(r"(?m)^#include inbound\.conf", _read(etc / "extensions.conf") or "")
        and "[dialmark-inbound]" in (_read(etc / "inbound.conf") or "")
    )


def _standalone_secret(made: Installation, etc: Path, choices: Choices) -> None:
    path = etc / "manager_site.conf"
    text = _read(path)
    if not choices.ami_secret or (text is not None and _value(text, f"{choices.ami_user}", "secret") is not None):
        return
    added = f"[{choices.ami_user}](+)\nsecret = {choices.ami_secret}\n"
    made.changes.append(Change(path, text, f"{text or ''}{added}", 0o640))


def sealed(text: str) -> str:
    """`text` of our own file, with the line by which its edits are noticed."""
    seal = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{SEAL}{seal}. Not to be edited: your changes go to extensions_site.conf.\n{text}"


def is_edited(text: str) -> bool:
    """Whether a file of ours was changed by hand since we wrote it, or was never ours."""
    match = _SEAL_LINE.match(text)
    return match is None or match[1] != hashlib.sha256(text[match.end() :].encode()).hexdigest()[:16]


def _own_files(made: Installation, etc: Path, shipped: Mapping[str, str], choices: Choices) -> None:
    included = [name for _, name in _INCLUDE.findall(shipped["extensions.conf"]) if name in shipped]
    texts = {name: _moved(shipped[name], choices) for name in included}
    texts["extensions.conf"] = _entry(_moved(shipped["extensions.conf"], choices), choices)
    texts["musiconhold.conf"] = shipped["musiconhold.conf"]
    texts[PAUSE_KEY] = _section_text(shipped["features.conf"], "applicationmap")
    texts["cel_custom.conf"] = _journal_mapping(shipped["cel_custom.conf"], choices)
    if choices.ami_secret:
        texts["manager.conf"] = _account(shipped["manager.conf"], choices)
    for name, text in texts.items():
        path = etc / FOLDER / name
        old = _read(path)
        new = sealed(text)
        if old is not None and is_edited(old):
            if old != new:
                made.notices.append(
                    f"{path} was edited by hand and is left alone; move it away and run init again to get ours"
                )
        elif old != new:
            made.changes.append(Change(path, old, new, 0o640 if name == "manager.conf" else None))


def _moved(text: str, choices: Choices) -> str:
    """Our dialplan text with its includes where they lie on an existing Asterisk: paths count from its own folder."""

    def place(match: re.Match[str]) -> str:
        folder = choices.generated if match[2] in GENERATED else FOLDER
        return f"{match[1]}{folder}/{match[2]}"

    return _INCLUDE.sub(place, text)


def _entry(text: str, choices: Choices) -> str:
    """Our extensions.conf without `[general]`, which is the PBX's, and with FastAGI's address."""
    kept: list[str] = []
    section = ""
    for line in text.splitlines(keepends=True):
        if match := _SECTION.match(line):
            section = match[1].strip()
        if section != "general" or line.startswith("#"):
            kept.append(line)
    return re.sub(r"(?m)^DM_AGI = .*$", f"DM_AGI = {choices.agi}", "".join(kept))


def _journal_mapping(text: str, choices: Choices) -> str:
    if choices.legacy_mapping is None:
        return text
    return f"[mappings]\ndialmark.csv => {choices.legacy_mapping}\n"


def _account(text: str, choices: Choices) -> str:
    """Our AMI account from the shipped manager.conf, without its `[general]` and includes, with the secret."""
    lines = [f"[{choices.ami_user}]\n", f"secret = {choices.ami_secret}\n"]
    section = ""
    for line in text.splitlines(keepends=True):
        if match := _SECTION.match(line):
            section = match[1].strip()
        elif section == "dialmark" and not line.startswith("#"):
            lines.append(line)
    return "".join(lines).rstrip("\n") + "\n"


def _dialplan(made: Installation, etc: Path) -> None:
    text = _read(etc / "extensions.conf")
    _include(made, _custom(etc, "extensions.conf"), "extensions.conf")
    if text is not None and re.search(r"(?mi)^\s*clearglobalvars\s*=>?\s*(yes|true|1|on)", text):
        made.notices.append(
            "extensions.conf has clearglobalvars = yes: each reload makes calls ask a hung daemon again (1.5 s each). "
            "It is left as it is"
        )


def _sip(made: Installation, etc: Path, choices: Choices) -> None:
    text = _read(etc / "pjsip.conf")
    _include(made, _custom(etc, "pjsip.conf"), "dialmark_pjsip.conf", folder=choices.generated)
    if not _has_section(text or "", "dialmark-tcp"):
        made.notices.append(
            "pjsip.conf keeps its transports: trunks over UDP use whichever there is, those over TCP or TLS "
            "need one named dialmark-tcp or dialmark-tls (asterisk/pjsip_transport.conf has examples)"
        )


def _manager(made: Installation, etc: Path, choices: Choices) -> None:
    if not choices.ami_secret:
        return
    text = _read(etc / "manager.conf")
    _include(made, _custom(etc, "manager.conf"), "manager.conf")
    if text is None or not _value(text, "general", "enabled") or _is_off(_value(text, "general", "enabled")):
        made.notices.append(
            "manager.conf does not have `enabled = yes` in [general]: AMI is off, and Dialmark cannot see whether "
            "Asterisk is alive. It concerns all AMI users, so it is left to you"
        )
    bind = _value(text or "", "general", "bindaddr")
    if bind in ("0.0.0.0", "::"):  # noqa: S104 - the value that is warned of
        made.notices.append(f"manager.conf binds AMI to {bind}: reachable from outside unless a firewall says no")


def _journal(made: Installation, etc: Path, shipped: Mapping[str, str], choices: Choices) -> None:
    path = etc / "cel.conf"
    text = _read(path)
    if text is None or not _has_section(text, "general"):
        made.changes.append(Change(path, text, (text or "") + shipped["cel.conf"]))
    else:
        _existing_journal(made, path, text, shipped["cel.conf"])
    _include(made, etc / "cel_custom.conf", "cel_custom.conf")


def _existing_journal(made: Installation, path: Path, text: str, ours: str) -> None:
    new = text
    if _is_off(_value(text, "general", "enable") or "no"):
        new = _set(new, "general", "enable", "yes")
        made.notices.append(
            "GLOBAL: cel.conf has CEL switched off; the diff switches it on. Every CEL backend that is loaded and "
            "configured (cel_custom, cel_odbc, cel_pgsql, …) starts to write with it"
        )
    wanted = _events(_value(ours, "general", "events") or "")
    present = _events(_value(text, "general", "events") or "")
    if "ALL" not in present and not wanted.keys() <= present.keys():
        added = [event for event in wanted if event not in present]
        listed = [*present, *added]
        new = _set(new, "general", "events", ",".join(listed))
        made.notices.append(
            f"GLOBAL: cel.conf logs fewer events than the journal needs; the diff adds {', '.join(added)}. Other CEL "
            "backends get these rows too"
        )
    if date_format := _value(text, "general", "dateformat"):
        new = _comment_out(new, "general", "dateformat")
        made.notices.append(
            f"GLOBAL: cel.conf has dateformat = {date_format}; the journal needs times as seconds since 1970, so the "
            "diff comments it out. Whoever reads other CEL files with that format must be changed first"
        )
    new = _with_apps(made, new, ours)
    if new != text:
        made.changes.append(Change(path, text, new))


def _with_apps(made: Installation, text: str, ours: str) -> str:
    """cel.conf with the applications whose start the journal must show: receipts of recordings rest on these rows."""
    wanted = _apps(_value(ours, "general", "apps") or "")
    written = _value(text, "general", "apps") or ""
    added = [app for app in wanted if app not in _apps(written) and "all" not in _apps(written)]
    if not added:
        return text
    made.notices.append(
        f"GLOBAL: cel.conf logs no start of {', '.join(added)}; the diff adds it, so that the journal shows when a "
        "recording began. Other CEL backends get these rows too"
    )
    return _set(text, "general", "apps", ",".join([*filter(None, [written]), *added]))


def _pause_key(made: Installation, etc: Path, shipped: Mapping[str, str]) -> None:
    """The agent's key that pauses a recording: our line inside `[applicationmap]`, used by Dialmark's calls only."""
    if not _section_text(shipped["features.conf"], "applicationmap").strip():
        return
    custom = etc / "features_applicationmap_custom.conf"
    text = _read(etc / "features.conf")
    if text is not None and custom.exists() and custom.name in text:
        # FreePBX includes this one inside the section.
        _include(made, custom, PAUSE_KEY)
        return
    line = f"#tryinclude {FOLDER}/{PAUSE_KEY}\n"
    if line not in (text or ""):
        added = (
            f"; Dialmark: the agent's key that pauses a recording. It counts in Dialmark's recorded calls only.\n{line}"
        )
        made.changes.append(Change(etc / "features.conf", text, _in_section(text or "", "applicationmap", added)))


def _machines(made: Installation, etc: Path, shipped: Mapping[str, str]) -> None:
    """Answering machine detection reads amd.conf when its module is loaded, and refuses to load without."""
    if "amd.conf" in shipped and _read(etc / "amd.conf") is None:
        made.changes.append(Change(etc / "amd.conf", None, shipped["amd.conf"]))


def _ringing(made: Installation, etc: Path) -> None:
    """What callers hear while they wait: ringing of the country of indications.conf, and a tune where no music is."""
    folder = ring_folder(etc)
    if missing := _missing_sound(folder / "ring"):
        zone = _value(_read(etc / "indications.conf") or "", "general", "country") or ""
        if zone not in tones.ZONES:
            made.notices.append(
                f"callers hear Russia's ringing; scripts/lib/ring_tone.py {folder} --zone … knows "
                + ", ".join(tones.ZONES)
            )
            zone = "ru"
        _sound(made, missing, tones.ringing(zone), f"ringing of zone {zone}")
    waiting = folder.with_name("wait")
    if not any(waiting.glob("*")):
        _sound(made, _missing_sound(waiting / "wait"), tones.tune(), "a plain tune")


def _missing_sound(stem: Path) -> list[Path]:
    files = (stem.with_suffix(f".{form}") for form in SOUND_FORMS)
    return [file for file in files if not file.exists()]


def _sound(made: Installation, files: list[Path], samples: list[int], about: str) -> None:
    for file in files:
        sound = SOUND_FORMS[file.suffix[1:]](samples).decode("utf-8", "surrogateescape")
        said = f"{about}, {len(samples) / tones.RATE_HZ:.0f} s"
        made.changes.append(Change(file, None, sound, 0o644, said))


def _modules(made: Installation, etc: Path, shipped: Mapping[str, str]) -> None:
    text = _read(etc / "modules.conf")
    if text is None:
        return
    needed = [name for name in _loads(shipped["modules.conf"]) if name.startswith(NEEDED)]
    if _is_off(_value(text, "modules", "autoload") or "no"):
        loaded = set(_loads(text))
        missing = [name for name in needed if name not in loaded]
        if missing:
            added = "".join(f"load = {name}\n" for name in missing)
            made.changes.append(
                Change(etc / "modules.conf", text, _in_section(text, "modules", f"; Dialmark needs these.\n{added}"))
            )
    refused = sorted(set(_loads(text, "noload")) & set(needed))
    if refused:
        made.notices.append(
            f"modules.conf keeps modules from loading that Dialmark needs: {', '.join(refused)}. Remove their noload "
            "lines; it is not done for you, since somebody put them there"
        )


def _look_around(made: Installation, etc: Path) -> None:
    options = _read(etc / "asterisk.conf") or ""
    if not _value(options, "options", "systemname"):
        made.notices.append(
            "asterisk.conf has no systemname: set one of your own per machine ([options] systemname = pbx-1), or "
            "unique ids of two machines, or of one whose clock stepped back, can be the same"
        )
    if not _is_off(_value(options, "options", "live_dangerously") or "no"):
        made.notices.append("asterisk.conf has live_dangerously = yes: AMI may then run commands of the machine")
    logs = log_folder(etc)
    if not (logs / "cel-custom").is_dir():
        made.notices.append(
            f"{logs / 'cel-custom'} is missing: make it before the reload, or every row of the journal is lost "
            f"(install -d -o asterisk -g asterisk -m 2770 {logs / 'cel-custom'})"
        )
    made.notices.append("cdr.conf is left alone: call records come from CEL, other readers of CDRs keep theirs")
    made.notices.append(
        "features.conf keeps your [featuremap]: Dialmark dials without feature codes (no t, T, k or K). Its pause key "
        "counts in recorded calls only"
    )


def _custom(etc: Path, name: str) -> Path:
    """Where our line goes: FreePBX writes `x.conf` anew, and leaves `x_custom.conf` alone, which it includes."""
    custom = etc / name.replace(".conf", "_custom.conf")
    text = _read(etc / name)
    return custom if text is not None and custom.name in text and custom.exists() else etc / name


def _include(made: Installation, target: Path, name: str, *, folder: str = FOLDER) -> None:
    text = _read(target)
    line = f"#tryinclude {folder}/{name}"
    if text is not None and re.search(rf"(?m)^\s*#(try)?include\s+[\"<]?{re.escape(f'{folder}/{name}')}", text):
        return
    before = "" if not text else text if text.endswith("\n") else f"{text}\n"
    added = f"\n; Dialmark: at the end of the file, so that your sections above stay whole.\n{line}\n"
    made.changes.append(Change(target, text, before + added.removeprefix("\n" if not before else "")))


def _read(path: Path) -> str | None:
    """Text of a file, None if there is none. Bytes that are not UTF-8 survive a round trip."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None


def _lines(text: str, section: str) -> Iterator[tuple[int, str]]:
    """Lines of one section with their numbers; a section may be opened several times."""
    current = ""
    for number, line in enumerate(text.splitlines()):
        if match := _SECTION.match(line):
            current = match[1].strip()
        elif current == section:
            yield number, line


def _has_section(text: str, section: str) -> bool:
    return any((match := _SECTION.match(line)) and match[1].strip() == section for line in text.splitlines())


def _value(text: str, section: str, key: str) -> str | None:
    """The last value of a key, without comment."""
    found = None
    for _, line in _lines(text, section):
        if match := re.match(rf"\s*{re.escape(key)}\s*=>?\s*([^;]*)", line, re.IGNORECASE):
            found = match[1].strip()
    return found


def _set(text: str, section: str, key: str, value: str) -> str:
    """The text with the key set: its last line changed, or a line put at the head of the section."""
    places = [number for number, line in _lines(text, section) if re.match(rf"(?i)\s*{re.escape(key)}\s*=", line)]
    if not places:
        return _in_section(text, section, f"{key} = {value}\n")
    lines = text.splitlines(keepends=True)
    lines[places[-1]] = f"{key} = {value}\n"
    return "".join(lines)


def _comment_out(text: str, section: str, key: str) -> str:
    lines = text.splitlines(keepends=True)
    for number, line in _lines(text, section):
        if re.match(rf"(?i)\s*{re.escape(key)}\s*=", line):
            lines[number] = f"; {lines[number].lstrip()}"
    return "".join(lines)


def _in_section(text: str, section: str, added: str) -> str:
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if (match := _SECTION.match(line)) and match[1].strip() == section:
            return "".join([*lines[:number], line if line.endswith("\n") else f"{line}\n", added, *lines[number + 1 :]])
    return f"{text}\n[{section}]\n{added}"


def _events(value: str) -> dict[str, None]:
    return dict.fromkeys(event.strip().upper() for event in value.split(",") if event.strip())


def _apps(value: str) -> list[str]:
    return [app.strip().lower() for app in value.split(",") if app.strip()]


def _section_text(text: str, section: str) -> str:
    """The lines of a section, comments included, without its head."""
    return "".join(f"{line}\n" for _, line in _lines(text, section))


def _loads(text: str, word: str = "load") -> list[str]:
    return re.findall(rf"(?m)^\s*{word}\s*=>?\s*([A-Za-z0-9_]+\.so)", text)


def _is_off(value: str | None) -> bool:
    return (value or "").lower() not in ("yes", "true", "1", "on", "y", "t")

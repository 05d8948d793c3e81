"""A real Asterisk with this checkout's configuration, started, stopped, killed and frozen by tests.

Several nodes run beside each other: each has its own folder, ports and system name. As root the node runs as an
unprivileged user without capabilities, as a normal user it runs as that user: never with a right of root.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.rig import ports, processes, standstills, waits
from tests.rig.ports import Address
from tests.rig.tones import RING_HZ

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ("dialmark_plan.conf", "dialmark_trunks.conf", "dialmark_pjsip.conf")
BOOT_SECONDS = 90.0


@dataclass(frozen=True)
class Installation:
    """What ``scripts/lib/asterisk-tree`` found or built."""

    program: tuple[str, ...]
    modules: Path
    data: Path
    version: str


@functools.cache
def installation() -> Installation:
    """The Asterisk to run; building the root tree takes half a minute, once per machine.

    Raises:
        RuntimeError: there is none and none can be built; the text says what to do.
    """
    done = subprocess.run([ROOT / "scripts/lib/asterisk-tree"], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    return Installation(tuple(found["program"].split()), Path(found["modules"]), Path(found["data"]), found["version"])


@functools.cache
def _music(is_steady: bool) -> dict[Path, bytes]:
    """What is heard while waiting, by file below the data folder. Made once, for all nodes."""
    program = ROOT / "scripts/lib/ring_tone.py"
    with tempfile.TemporaryDirectory() as made:
        ring = Path(made) / "dialmark" / "ring"
        subprocess.run([sys.executable, program, ring], check=True)
        if is_steady:
            for file in ring.iterdir():
                file.unlink()
            subprocess.run([sys.executable, program, "--steady", str(RING_HZ), ring / "ring.ulaw"], check=True)
        return {file.relative_to(made): file.read_bytes() for file in Path(made).rglob("*") if file.is_file()}


def new_folder(name: str = "node") -> Path:
    """A folder that the unprivileged user can reach; pytest's ``tmp_path`` is closed to all but its owner."""
    folder = Path(tempfile.mkdtemp(prefix=f"dialmark-{name}-"))
    folder.chmod(0o755)
    return folder


class AsteriskNode:
    """One Asterisk.

    Args:
        folder: everything of this node goes below it; see :func:`new_folder`.
        phones: SIP endpoints of the site; each has an address on which a test puts a callee, or nothing.
        carriers: parties that call in and are called through trunks; each has an address of its own: a free one for a
            name, or the one given with it.
        files: text by file name, written over the checkout's: ``extensions_site.conf``, ``queues_site.conf`` ...
        dialplan: text by file name in place of ``dialplans/``; must hold ``extensions.conf``.
        pjsip_site: text appended to ``pjsip_site.conf`` after the phones.
        system_name: first part of every UNIQUEID.
        realtime: it goes before all other work of the machine, as `asterisk -p` does, where we may; for tests that
            measure sound while others run.
        steady_ring: what a waiting caller hears rings without the cadence's pauses, so that any silence is a gap.
    """

    def __init__(
        self,
        folder: Path,
        *,
        phones: Sequence[str] = ("desk-1", "desk-2", "desk-3", "desk-4"),
        carriers: Sequence[str] | Mapping[str, Address] = ("carrier-a", "carrier-b"),
        files: Mapping[str, str] | None = None,
        dialplan: Mapping[str, str] | None = None,
        pjsip_site: str = "",
        system_name: str = "rig",
        realtime: bool = False,
        steady_ring: bool = False,
    ) -> None:
        self.folder = folder
        self.etc = folder / "etc"
        self.log = folder / "log"
        self.spool = folder / "spool"
        self.recordings = self.spool / "dialmark"
        self.run = folder / "run"
        self.data = folder / "data"
        self.journal = self.log / "cel-custom" / "dialmark.csv"
        self.system_name = system_name
        self.sip = Address("127.0.0.1", ports.free_port())
        self.ami = Address("127.0.0.1", ports.free_port())
        self.agi = Address("127.0.0.1", ports.free_port())
        self.ami_user, self.ami_secret = "dialmark", "rig-" + "0123456789abcdef" * 2
        self.phones = {name: _place(ports.phone_host(n)) for n, name in enumerate(phones, 1)}
        if isinstance(carriers, Mapping):
            self.carriers = dict(carriers)
        else:
            self.carriers = {name: _place(ports.carrier_host(n)) for n, name in enumerate(carriers, 1)}
        self.installation = installation()
        self._files = dict(files or {})
        self._dialplan = dict(dialplan) if dialplan is not None else None
        self._pjsip_site = pjsip_site
        self._is_real_time = realtime
        self._steady_ring = steady_ring
        self._has_own_recordings = False
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._render()

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start and return when Asterisk has fully booted. Generated files are watched from here on.

        Raises:
            RuntimeError: it ended or did not boot; the text holds the end of its log.
        """
        if self._process is not None:
            raise RuntimeError("already running")
        self._start_watcher()
        if self._is_real_time:
            standstills.watch()
        with (self.folder / "console.log").open("ab") as console:
            argv = processes.unprivileged([*self._command, "-f", "-q"])
            self._process = subprocess.Popen(
                processes.real_time(argv, 1) if self._is_real_time else argv,
                cwd=self.folder,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.run), "TZ": "UTC"},
                umask=0o027,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        try:
            waits.wait_until(self._has_booted, BOOT_SECONDS, "Asterisk fully booted")
        except (TimeoutError, RuntimeError) as error:
            self.kill()
            raise RuntimeError(f"{error}\n{self.tail()}") from error

    def stop(self) -> None:
        """SIGTERM: calls are dropped, their rows written. No error when it is not running."""
        self._stop_watcher()
        if self._process is not None:
            processes.stop(self._process, 10)
            self._process = None

    def kill(self) -> None:
        """SIGKILL, in the middle of whatever it does."""
        self._stop_watcher()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: sockets stay open, nothing is answered."""
        processes.freeze(self.pid)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def close(self, *, keep_folder: bool = False) -> None:
        """Stop and remove the folder."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.thaw()
        self.stop()
        if self._has_own_recordings:
            subprocess.run(["umount", "--lazy", self.recordings], check=True)
            self._has_own_recordings = False
        if not keep_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> AsteriskNode:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- control -------------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("Asterisk is not running")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def cli(self, command: str) -> str:
        """Output of one console command.

        Raises:
            RuntimeError: Asterisk does not answer.
        """
        done = subprocess.run(
            processes.unprivileged([*self._command, "-rx", command]),
            cwd=self.folder,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )
        output = done.stdout.decode(errors="replace")
        if done.returncode != 0:
            raise RuntimeError(f"{command!r}: {output}{done.stderr.decode(errors='replace')}")
        return output

    def reload_dialplan(self) -> None:
        self.cli("dialplan reload")

    def ask_at(self, place: Address) -> None:
        """Calls ask this FastAGI server from now on, whoever reloads the dialplan meanwhile."""
        self.write("extensions.conf", _asking((self.etc / "extensions.conf").read_text(), place))
        self.reload_dialplan()

    def until_endpoint(self, name: str, seconds: float = 60.0) -> None:
        """Return when Asterisk knows the SIP endpoint: a trunk comes with a generated file.

        Raises:
            TimeoutError: it does not within ``seconds``.
        """
        waits.wait_until(
            lambda: "Unable to find" not in self.cli(f"pjsip show endpoint {name}"), seconds, f"an endpoint {name}"
        )

    def until_idle(self, seconds: float = 60.0) -> None:
        """Return when no channel is up: the journal of all calls so far is complete."""
        waits.wait_until(lambda: self.channels() == 0, seconds, "no channel up")

    def channels(self) -> int:
        """Channels that are up now."""
        found = re.search(r"(\d+) active channel", self.cli("core show channels count"))
        return int(found[1]) if found else 0

    def cpu_seconds(self) -> float:
        """CPU time Asterisk has used since its start."""
        return processes.cpu_seconds(self.pid)

    def tail(self, lines: int = 30) -> str:
        """The end of console and log, for error texts."""
        texts = [
            p.read_text(errors="replace")
            for p in (self.folder / "console.log", self.log / "messages.log")
            if p.exists()
        ]
        return "\n".join(line for text in texts for line in text.splitlines()[-lines:])

    def write(self, name: str, text: str) -> None:
        """Put a file into the configuration folder as the daemon does: beside it, then renamed."""
        target = self.etc / name
        part = target.with_name(f".{name}.part")
        part.write_text(text)
        part.chmod(0o640)
        self._give(part)
        part.rename(target)

    # -- configuration -------------------------------------------------------------------------------------------

    @property
    def _command(self) -> list[str]:
        return [*self.installation.program, "-C", str(self.etc / "asterisk.conf")]

    def _render(self) -> None:
        for folder in (
            self.etc,
            self.spool / "monitor",
            self.recordings,
            self.run,
            self.log / "cel-custom",
            self.folder / "db",
            self.data,
        ):
            folder.mkdir(parents=True, exist_ok=True)
        for name, text in self._texts().items():
            (self.etc / name).write_text(text)
        self._link_data()
        for path in (self.folder, *self.folder.rglob("*")):
            if not path.is_symlink():
                self._give(path)
        # setgid: what the daemon writes here belongs to Asterisk's group
        self.etc.chmod(0o2775)
        self.recordings.chmod(0o2770)

    def _texts(self) -> dict[str, str]:
        texts = {path.name: path.read_text() for path in (ROOT / "asterisk").glob("*.conf")}
        if self._dialplan is None:
            texts |= {path.name: path.read_text() for path in (ROOT / "dialplans").glob("*.conf")}
        else:
            texts |= self._dialplan
        texts["extensions.conf"] = _asking(texts["extensions.conf"], self.agi)
        texts["asterisk.conf"] = self._asterisk_conf(texts["asterisk.conf"])
        texts["pjsip_transport.conf"] = "".join(
            f"[rig-{protocol}]\ntype = transport\nprotocol = {protocol}\nbind = {self.sip}\n\n"
            for protocol in ("udp", "tcp")
        )
        texts["manager_site.conf"] = (
            f"[general](+)\nport = {self.ami.port}\n\n[{self.ami_user}](+)\nsecret = {self.ami_secret}\n"
        )
        texts["pjsip_site.conf"] = "".join(map(self._phone, self.phones)) + self._pjsip_site
        return texts | self._files

    def _asterisk_conf(self, text: str) -> str:
        folders = {
            "astetcdir": self.etc,
            "astmoddir": self.installation.modules,
            "astvarlibdir": self.data,
            "astdbdir": self.folder / "db",
            "astkeydir": self.data,
            "astdatadir": self.data,
            "astagidir": self.data,
            "astspooldir": self.spool,
            "astrundir": self.run,
            "astlogdir": self.log,
            "astcachedir": self.folder / "db",
        }
        directories = "[directories]\n" + "".join(f"{name} => {path}\n" for name, path in folders.items())
        return directories + re.sub(r"(?m)^systemname = .*$", f"systemname = {self.system_name}", text)

    def _phone(self, name: str) -> str:
        return (
            f"[{name}](dialmark-phone)\naors = {name}\n\n"
            f"[{name}]\ntype = aor\ncontact = sip:{name}@{self.phones[name]}\n\n"
        )

    def trunk_text(self, key: str, context: str) -> str:
        """A trunk by IP as ``pjsip_site`` text, for tests that run without the daemon's generated trunks."""
        place = self.carriers[key]
        return (
            f"[{key}](dialmark-phone)\ncontext = {context}\n\n"
            f"[{key}]\ntype = identify\nendpoint = {key}\nmatch = {place.host}\n\n"
            f"[{key}-out](dialmark-phone)\naors = {key}-out\n\n"
            f"[{key}-out]\ntype = aor\ncontact = sip:{place}\n\n"
        )

    def limit_recordings(self, size: int) -> None:
        """Give the folder of recordings a filesystem of its own, of so many bytes, until :meth:`close`.

        Raises:
            PermissionError: only root may mount one.
        """
        if os.geteuid() != 0:
            raise PermissionError("a filesystem of its own for recordings is mounted by root: run this test as root")
        owner = processes.UNPRIVILEGED_ID
        options = f"size={size},mode=2770,uid={owner},gid={owner},nosuid,nodev,noexec"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "dialmark-rig", self.recordings], check=True)
        self._has_own_recordings = True

    def add_site(self, text: str) -> None:
        """Append to ``pjsip_site.conf``; read at the next start, or by ``cli("module reload res_pjsip.so")``."""
        with (self.etc / "pjsip_site.conf").open("a") as site:
            site.write(text)

    def _link_data(self) -> None:
        for entry in self.installation.data.iterdir():
            link = self.data / entry.name
            if entry.name != "sounds" and not link.exists():
                link.symlink_to(entry)
        self._link_sounds()
        for place, sound in _music(self._steady_ring).items():
            file = self.data / place
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(sound)

    def _link_sounds(self) -> None:
        """Prompts by language. Debian's ``en`` is a link into its alternatives, which points nowhere in a root tree."""
        sounds = self.data / "sounds"
        sounds.mkdir(exist_ok=True)
        english = "en_US_f_Allison"
        for entry in (self.installation.data / "sounds").glob("*"):
            source = entry if entry.exists() else entry.with_name(english)
            link = sounds / entry.name
            if not link.is_symlink() and entry.name.startswith("en") and source.exists():
                link.symlink_to(source)
        if (sounds / english).exists() and not (sounds / "en").exists():
            # A tree of a normal user's has no alternatives at all.
            (sounds / "en").symlink_to(sounds / english)

    def _give(self, path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, processes.UNPRIVILEGED_ID, processes.UNPRIVILEGED_ID)

    # -- inner ---------------------------------------------------------------------------------------------------

    def _has_booted(self) -> bool:
        if not self.is_running:
            raise RuntimeError("Asterisk ended while starting")
        if not (self.run / "asterisk.ctl").exists():
            return False
        with contextlib.suppress(RuntimeError):
            self.cli("core waitfullybooted")
            return True
        return False

    def _start_watcher(self) -> None:
        command = processes.unprivileged(self._command)
        script = ROOT / "scripts/lib/reload_watch.py"
        self._watcher = subprocess.Popen(
            processes.guarded([sys.executable, str(script), str(self.etc), "--", *command]),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
        )

    def _stop_watcher(self) -> None:
        if self._watcher is not None:
            processes.stop(self._watcher)
            self._watcher = None


def _asking(dialplan: str, place: Address) -> str:
    """Replaced rather than set again in extensions_site.conf: a reload would set the first value for a moment."""
    return re.sub(r"(?m)^DM_AGI = .*$", f"DM_AGI = {place}", dialplan)


def _place(host: str) -> Address:
    return Address(host, ports.free_port(host))

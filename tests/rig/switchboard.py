"""A node with parties around it: what a test, a bench or the demo speaks to."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.rig import ports, sipp, sipua
from tests.rig.asterisk import AsteriskNode
from tests.rig.headset import Headset, Voice
from tests.rig.ports import Address
from tests.rig.sipp import Behaviour, Callee, CallResult, Hold, LoadResult, Placed


class Rig:
    """Callers and callees of one node. Leave it (``with``) and every party is gone; the node stays.

    A phone or carrier nobody has put a callee on is a dead one: its port is closed.
    """

    def __init__(self, node: AsteriskNode) -> None:
        self.node = node
        self._folder = node.folder / "parties"
        self._callees: dict[str, Callee] = {}
        self._placed: list[Placed] = []
        self._callers: list[sipua.Caller] = []
        self._headsets: list[Headset] = []

    def callee(
        self,
        name: str,
        behaviour: Behaviour = Behaviour.ANSWER,
        *,
        ring_ms: int = 100,
        talk_ms: int | None = None,
        tone_hz: int | None = None,
        voice: Voice | None = None,
        hold: Hold | None = None,
        echo: bool = False,
        traced: bool = True,
    ) -> Callee:
        """Put a callee on a phone's or carrier's address, in place of the one that is there."""
        if name in self._callees:
            self._callees.pop(name).stop()
        callee = Callee(
            self._new_folder(name),
            self.address(name),
            behaviour,
            ring_ms=ring_ms,
            talk_ms=talk_ms,
            tone_hz=tone_hz,
            voice=voice,
            hold=hold,
            echo=echo,
            traced=traced,
        )
        self._callees[name] = callee
        return callee

    def address(self, name: str) -> Address:
        """Where a phone or a carrier listens."""
        return self.node.phones.get(name) or self.node.carriers[name]

    async def start_call(
        self,
        number: str,
        *,
        caller: str = "+79161234567",
        name: str = "",
        hold_ms: int = 300,
        patience_ms: int | None = None,
        tone_hz: int | None = None,
        voice: Voice | None = None,
        headers: Sequence[str] = (),
        carrier: str | None = None,
    ) -> Placed:
        """Dial ``number`` from a carrier's address, by SIPp; ``voice`` as in :mod:`tests.rig.headset`.

        It hangs up ``hold_ms`` after the answer, and gives up ``patience_ms`` after the last response without one.
        """
        while True:
            folder = self._new_folder("call")
            source = self._source(carrier)
            headset = self._headset(folder, source.host, voice, sipp.trace_of(folder))
            tokens = sipp.call_tokens(
                folder,
                source,
                caller=caller,
                name=name,
                hold_ms=hold_ms,
                patience_ms=patience_ms,
                tone_hz=tone_hz,
                headers=headers,
                headset=headset,
            )
            if headset is not None:
                await headset.until_ready()
            placed = await sipp.place_call(folder, source, self.node.sip, number, tokens, headset)
            self._placed.append(placed)
            # Another program may take a port between our look and SIPp's bind.
            if await placed.began():
                return placed
            await placed.vanish()

    async def call(
        self,
        number: str,
        *,
        caller: str = "+79161234567",
        name: str = "",
        hold_ms: int = 300,
        patience_ms: int | None = None,
        tone_hz: int | None = None,
        voice: Voice | None = None,
        headers: Sequence[str] = (),
        carrier: str | None = None,
    ) -> CallResult:
        """As :meth:`start_call`, and wait for its end."""
        placed = await self.start_call(
            number,
            caller=caller,
            name=name,
            hold_ms=hold_ms,
            patience_ms=patience_ms,
            tone_hz=tone_hz,
            voice=voice,
            headers=headers,
            carrier=carrier,
        )
        return await placed.result()

    async def load(
        self, number: str, *, rate: float, calls: int, hold_ms: int = 100, caller: str = "7916[call_number]"
    ) -> LoadResult:
        """Many short calls at a rate (per second); ``[call_number]`` counts up. Callees should be ``traced=False``."""
        folder = self._new_folder("load")
        source = self._source(None)
        tokens = sipp.call_tokens(
            folder, source, caller=caller, hold_ms=hold_ms, patience_ms=None, tone_hz=None, headers=()
        )
        return await sipp.load(folder, source, self.node.sip, number, tokens, rate=rate, calls=calls)

    async def dial(
        self,
        number: str | bytes,
        *,
        from_header: str | bytes = "<sip:+79161234567@carrier.invalid>",
        to_header: str | bytes | None = None,
        headers: Sequence[str | bytes] = (),
        voice: Voice | None = None,
        carrier: str | None = None,
        stranger: bool = False,
    ) -> sipua.Caller:
        """A caller held by the hand, whose INVITE carries these very bytes; see :class:`tests.rig.sipua.Caller`.

        With a ``voice`` it speaks from the answer on, and what it hears is in its ``headset``.
        """
        host = ports.stranger_host() if stranger else self._source(carrier).host
        headset = self._headset(self._new_folder("caller"), host, voice)
        if headset is not None:
            await headset.until_ready()
        caller = await sipua.Caller.dial(
            host, self.node.sip, number, from_header=from_header, to_header=to_header, headers=headers, headset=headset
        )
        self._callers.append(caller)
        return caller

    async def close(self) -> None:
        """Every party vanishes."""
        for caller in self._callers:
            caller.close()
        for placed in self._placed:
            with contextlib.suppress(ProcessLookupError):
                await placed.vanish()
        for callee in self._callees.values():
            callee.stop()
        for headset in self._headsets:
            headset.stop()
        self._callees.clear()
        self._placed.clear()
        self._callers.clear()
        self._headsets.clear()

    async def __aenter__(self) -> Rig:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _source(self, carrier: str | None) -> Address:
        host = (self.node.carriers[carrier] if carrier else next(iter(self.node.carriers.values()))).host
        return Address(host, ports.free_port(host, brief=True))

    def _headset(self, folder: Path, host: str, voice: Voice | None, trace: Path | None = None) -> Headset | None:
        """A caller's, which is gone with the rig even if its call never began."""
        if voice is None:
            return None
        headset = Headset(folder, host, voice, trace)
        self._headsets.append(headset)
        return headset

    def _new_folder(self, name: str) -> Path:
        """One per party, kept for a look after a failure; several rigs may have used the node before."""
        self._folder.mkdir(exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self._folder))

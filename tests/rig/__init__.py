"""The real Asterisk and real SIP parties for tests, bench and demo.

``asterisk`` runs a node from this checkout's configuration; ``sipp`` makes callers and callees; ``sipua`` is a caller
that a test holds by the hand (hang up now, press 1, send these very bytes); ``headset`` gives either a voice and an
ear; ``tones`` tells what was heard or recorded; ``switchboard`` brings them together as :class:`Rig`; ``dialmark`` runs
our own daemon and command line beside a node, ``preloaded`` makes that fast where hundreds are started.
"""

from tests.rig.asterisk import AsteriskNode
from tests.rig.dialmark import Daemon
from tests.rig.headset import Headset, Key, Voice
from tests.rig.ports import Address
from tests.rig.sipp import Behaviour, Callee, CallResult, Hold, LoadResult
from tests.rig.sipua import Caller
from tests.rig.switchboard import Rig
from tests.rig.tones import AGENT_HZ, CALLER_HZ, RING_HZ, Track, voice_of

__all__ = [
    "AGENT_HZ",
    "CALLER_HZ",
    "RING_HZ",
    "Address",
    "AsteriskNode",
    "Behaviour",
    "CallResult",
    "Callee",
    "Caller",
    "Daemon",
    "Headset",
    "Hold",
    "Key",
    "LoadResult",
    "Rig",
    "Track",
    "Voice",
    "voice_of",
]

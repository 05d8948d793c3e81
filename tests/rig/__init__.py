"""The real Asterisk and real SIP parties for tests, bench and demo.

``asterisk`` runs a node from this checkout's configuration; ``sipp`` makes callers and callees; ``sipua`` is a caller
that a test holds by the hand (hang up now, press 1, send these very bytes); ``switchboard`` brings them together as
:class:`Rig`; ``dialmark`` runs our own daemon and command line beside a node.
"""

from tests.rig.asterisk import AsteriskNode
from tests.rig.dialmark import Daemon
from tests.rig.ports import Address
from tests.rig.sipp import Behaviour, Callee, CallResult, LoadResult
from tests.rig.sipua import Caller
from tests.rig.switchboard import Rig

__all__ = ["Address", "AsteriskNode", "Behaviour", "CallResult", "Callee", "Caller", "Daemon", "LoadResult", "Rig"]

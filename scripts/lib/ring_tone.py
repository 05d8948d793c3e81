"""Writes telephone tones as 8 kHz mono files: the music classes ``ring`` and ``wait``, and steady tones for tests.

    python ring_tone.py FOLDER [--zone ru]      FOLDER/ring.ulaw and FOLDER/ring.alaw, one period of the zone's ringing;
                                                a plain tune into the folder wait beside it, unless music is there
    python ring_tone.py --steady 1004 FILE.ulaw one second of a sine, for playing in a loop

``dialmark init`` writes the first two files too, in the zone of Asterisk's ``indications.conf``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# So that it runs from a checkout without anything installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gateway.core import tones


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--zone", choices=sorted(tones.ZONES), default="ru")
    parser.add_argument("--steady", type=int, metavar="HZ")
    options = parser.parse_args()
    if options.steady:
        options.target.write_bytes(tones.ulaw(tones.sine((options.steady,), 1)))
        return
    write(options.target / "ring", tones.ringing(options.zone))
    waiting = options.target.parent / "wait"
    if not any(waiting.glob("*")):
        write(waiting / "wait", tones.tune())


def write(stem: Path, samples: list[int]) -> None:
    """``stem.ulaw`` and ``stem.alaw``."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".ulaw").write_bytes(tones.ulaw(samples))
    stem.with_suffix(".alaw").write_bytes(tones.alaw(samples))


if __name__ == "__main__":
    main()

"""stub"""

from __future__ import annotations

import hashlib
import random


def draw_notes(notes, num, *, seed, name):
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    o = list(notes)
    random.Random(int.from_bytes(digest[:8], "big")).shuffle(o)
    if num > len(o):
        raise ValueError(f"{num} of {len(o)}")
    return tuple(o[:num])

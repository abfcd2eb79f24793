"""Freed memory: kept while training allocates, given back between pieces of work."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

# 3,000 blocks of 64 kB, of which every third stays: holes that no top of a heap can be cut off for.
WORK = """
import json, resource
from pathlib import Path
from fedmedlora.model.memory import keep_freed_memory, return_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

kept = keep_freed_memory()
before = resident()
blocks = [bytes([1]) * 65536 for _ in range(3000)]
full = resident()
blocks = blocks[::3]
freed = resident()
told = return_freed_memory()
print(json.dumps([kept, told, full - before, freed - before, resident() - before]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_freed_memory_stays_until_it_is_given_back():
    out = subprocess.run([sys.executable, "-c", WORK], check=True, capture_output=True, text=True).stdout
    kept, told, full, freed, left = json.loads(out)
    assert (kept, told) == (True, True)
    assert full > 3000 * 65536
    assert freed == pytest.approx(full, rel=0.02)
    assert left == pytest.approx(full / 3, rel=0.15)

"""What is imported before a fork leaves the GPU alone, and where it did not, that is noticed."""

from __future__ import annotations

import subprocess
import sys

import torch

from fedmedlora.model.forking import has_lost_gpu

SCRIPT = """
import os, sys
from fedmedlora.model.forking import has_lost_gpu, prepare_to_fork
prepare_to_fork()
import torch
assert "peft" in sys.modules
assert not torch.cuda.is_initialized()
torch.cuda.is_available()  # by NVML: asks no driver that a fork could not ask again
pid = os.fork()
if pid == 0:
    os._exit(2 if has_lost_gpu() else 0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_fork_finds_the_gpu_untouched():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["0"], done.stderr


def test_a_fork_that_could_not_use_its_gpu_knows(monkeypatch):
    assert not has_lost_gpu()
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    assert has_lost_gpu()
    monkeypatch.delattr(torch.cuda, "_is_in_bad_fork")  # a torch that asks otherwise
    assert has_lost_gpu()

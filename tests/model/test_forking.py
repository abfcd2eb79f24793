"""What is imported before a fork leaves the GPU alone, and where it did not, that is noticed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from fedmedlora.model import forking
from fedmedlora.model.forking import (
    gpus_counted_without_cuda,
    has_lost_gpu,
    has_opened_gpu,
    import_for_models,
)

NAME = "PYTORCH_NVML_BASED_CUDA_CHECK"
SCRIPT = """
import os, sys
import torch
from fedmedlora.model import forking
with forking.gpus_counted_without_cuda():
    forking.import_for_models()
    torch.cuda.is_available()
assert not forking.has_opened_gpu()
assert "transformers.models.auto.modeling_auto" in sys.modules
pid = os.fork()
if pid == 0:
    if forking.has_lost_gpu():
        os._exit(2)
    if torch.cuda.is_available():
        torch.ones(1, device="cuda")
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(
    torch.version.cuda is not None and not torch.cuda.is_available(), reason="CUDA, but no GPU"
)
def test_a_fork_can_use_what_gpu_there_is():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_fork_that_could_not_use_its_gpu_knows(monkeypatch):
    assert not has_lost_gpu()
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    assert has_lost_gpu()
    monkeypatch.delattr(torch.cuda, "_is_in_bad_fork")  # a torch that asks otherwise
    assert has_lost_gpu()
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert has_opened_gpu()


@pytest.mark.parametrize("before", [None, "0"])
def test_how_gpus_are_counted_is_changed_within_the_block_only(monkeypatch, before):
    monkeypatch.delenv(NAME, raising=False)
    if before is not None:
        monkeypatch.setenv(NAME, before)
    with gpus_counted_without_cuda():
        assert os.environ[NAME] == "1"
    assert os.environ.get(NAME) == before


@pytest.mark.parametrize("opens_gpus", [True, False])
def test_peft_is_left_out_where_it_would_open_the_gpus(monkeypatch, opens_gpus):
    imported: list[str] = []
    monkeypatch.setattr(forking, "find_spec", lambda name: object() if opens_gpus else None)
    monkeypatch.setattr(forking.importlib, "import_module", imported.append)
    import_for_models()
    assert ("peft" in imported) is not opens_gpus
    assert len(imported) == 3 - opens_gpus

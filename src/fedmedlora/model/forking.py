"""What a process needs to know of torch and transformers that forks others, which are to load models."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from importlib.util import find_spec

import torch

# Imported when a model is loaded and an adapter put on it, so that it has not to be imported after a fork.
_MODULES = ("transformers.models.auto.modeling_auto", "transformers.models.auto.tokenization_auto", "peft")
_BY_NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"


def import_for_models() -> None:
    """Import what loading a model does, and leave the GPU alone."""
    for name in _MODULES:
        # PEFT imports bitsandbytes where it is installed, and that opens every GPU.
        if name != "peft" or find_spec("bitsandbytes") is None:
            importlib.import_module(name)


@contextlib.contextmanager
def gpus_counted_without_cuda() -> Iterator[None]:
    """Within the block torch asks NVML how many GPUs there are, and not CUDA, which no fork could use then.

    https://docs.pytorch.org/docs/stable/cuda_environment_variables.html. After it as before: NVML also names
    cards that CUDA cannot use.
    """
    before = os.environ.get(_BY_NVML)
    os.environ[_BY_NVML] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_BY_NVML]
        else:
            os.environ[_BY_NVML] = before


def has_opened_gpu() -> bool:
    """Whether this process uses CUDA, and what it forks could therefore not."""
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def has_lost_gpu() -> bool:
    """In a forked process: whether CUDA was asked for anything before the fork, so that it cannot be used."""
    # torch's own test before it raises "Cannot re-initialize CUDA in forked subprocess".
    return bool(getattr(torch.cuda, "_is_in_bad_fork", lambda: True)())

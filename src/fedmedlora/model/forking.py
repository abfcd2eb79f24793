"""What a process needs to know of torch and transformers that forks others, which are to load models."""

from __future__ import annotations

import importlib
import os

import torch

# Imported when a model is loaded and an adapter put on it, so that it has not to be imported after a fork.
_MODULES = (
    "peft",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
)


def prepare_to_fork() -> None:
    """Import what loading a model does, with the GPU untouched. To be called before anything asks for it."""
    # torch asks CUDA itself how many GPUs there are, after which no fork could use them; or NVML, which is
    # good for forks: https://docs.pytorch.org/docs/stable/cuda_environment_variables.html
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    for name in _MODULES:
        importlib.import_module(name)


def has_lost_gpu() -> bool:
    """In a forked process: whether CUDA was used before the fork, so that it cannot be used here."""
    # torch's own test before it raises "Cannot re-initialize CUDA in forked subprocess".
    return bool(getattr(torch.cuda, "_is_in_bad_fork", lambda: True)())

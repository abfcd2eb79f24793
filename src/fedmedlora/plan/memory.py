"""From bytes that the program keeps to bytes that a device shows: what the allocator and the process add.

What was measured for it stands in ``docs/plan.md``, with the command (``benchmarks/memory.py``).
"""

from __future__ import annotations

import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fedmedlora.plan.trace import StepTrace

# Memory that is freed stays in the process (``model/memory.py``) and is used again for blocks of the same
# size or smaller, so the heap is larger than what it holds.
HEAP_FACTOR = 1.7
# With checkpointing less is alive at a time, in blocks of more different sizes.
HEAP_FACTOR_CHECKPOINTED = 3.0
# CUDA's own memory on the card: its context, and the work space of cuBLAS. Blocks that torch holds and does
# not use come on top: its allocator rounds up and splits.
CONTEXT_BYTES = 600_000_000
CACHE_FACTOR = 1.1


def on_device(trace: StepTrace, *, is_cpu: bool, process: int = 0, context: bool = True) -> int:
    """Peak bytes on a device of one optimizer step.

    ``process``: of a CPU, what the process takes before it loads a model. ``context``: of a GPU, count what
    CUDA and torch's allocator hold beyond torch's own tensors.
    """
    if is_cpu:
        factor = HEAP_FACTOR_CHECKPOINTED if trace.checkpointed else HEAP_FACTOR
        step = trace.optimizer_bytes + factor * trace.step_bytes
        more = max(step, HEAP_FACTOR * trace.validation_bytes)
        return round(process + trace.weights_bytes + trace.adapter_bytes + more)
    return round(CACHE_FACTOR * trace.peak_bytes) + CONTEXT_BYTES if context else trace.peak_bytes


def quantized(trace: StepTrace, model: Any) -> StepTrace:
    """``trace`` with the base model's linear layers in NF4, double quantization, as bitsandbytes keeps it.

    Four bits a weight; of every 64 weights a constant of 8 bits; of every 256 constants one of 32 (Dettmers
    et al., QLoRA, arXiv:2305.14314, section 3). The output head and the embeddings stay as they are. One
    layer's weights at a time are unpacked to be multiplied.
    """
    head = model.get_base_model().get_output_embeddings()
    weights = [
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head and ".lora_" not in name
    ]
    whole = sum(weight.numel() * weight.element_size() for weight in weights)
    packed = sum(weight.numel() for weight in weights) * (4 + 8 / 64 + 32 / (64 * 256)) / 8
    unpacked = max((weight.numel() * weight.element_size() for weight in weights), default=0)
    return replace(
        trace,
        weights_bytes=trace.weights_bytes - whole + round(packed),
        step_bytes=trace.step_bytes + unpacked,
        validation_bytes=trace.validation_bytes and trace.validation_bytes + unpacked,
    )


def process_bytes() -> int:
    """Resident memory of this process now, bytes; where the system does not say it, at its peak."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * resource.getpagesize()

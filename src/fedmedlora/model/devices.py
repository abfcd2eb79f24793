"""The GPUs that this machine shows."""

from __future__ import annotations

import torch


def visible_gpus() -> tuple[tuple[str, int], ...]:
    """(name, memory in bytes) of each; none where there is no CUDA."""
    if not torch.cuda.is_available():
        return ()
    found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return tuple((str(one.name), int(one.total_memory)) for one in found)

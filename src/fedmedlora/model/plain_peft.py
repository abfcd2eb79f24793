"""``adapter_config.json`` as any PEFT reads it.

What ``run`` saves holds every setting of the PEFT that it ran with, dozens at their defaults; an older PEFT,
or another program that reads the file, stumbles over the names it does not know. So only what says something
is kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedmedlora.model.saved import refuse_other_config

_KEPT = (
    "base_model_name_or_path",
    "bias",
    "fan_in_fan_out",
    "inference_mode",
    "lora_alpha",
    "lora_dropout",
    "peft_type",
    "r",
    "target_modules",
    "task_type",
)
_OF_THE_WRITER = ("auto_mapping", "peft_version", "revision")


def plain_config(folder: Path, manifest: dict[str, Any], base_name: str) -> dict[str, Any]:
    """The configuration of the adapter in ``folder``, over ``base_name``.

    Raises ``ValueError`` where it sets something that would be lost, and where it is another adapter's than
    the manifest's.
    """
    from peft import LoraConfig

    refuse_other_config(manifest, folder)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    missing = [key for key in _KEPT if key not in config]
    if missing:
        raise ValueError(f"{path.name}: {', '.join(missing)} missing; give a folder that `run` wrote")
    defaults = LoraConfig().to_dict()
    for key, value in config.items():
        if key not in (*_KEPT, *_OF_THE_WRITER) and (key not in defaults or value != defaults[key]):
            raise ValueError(
                f"{path.name}: {key[:40]}: an adapter that `run` wrote is plain LoRA, without it"
            )
    return {key: config[key] for key in _KEPT} | {"base_model_name_or_path": base_name}

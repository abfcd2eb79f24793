"""An adapter on disk: PEFT's own two files, and ``fedmedlora.json`` with what it was trained for.

Plain PEFT loads the folder. Our ``extract`` also reads the manifest and refuses to run an adapter on
another base model, with other prompts or under another segmentation than it was trained with: such a
run would give results, only wrong ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.numpy import save as safetensors_bytes

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.model.load import BaseModel

FORMAT, VERSION = "fedmedlora-adapter-manifest", 1
MANIFEST = "fedmedlora.json"
_KEYS = (
    "base_model",
    "adapter",
    "schema",
    "annotates",
    "tasks",
    "prompts",
    "output_form",
    "loss",
    "readable_by_generate",
    "segmentation_version",
)


def adapter_files(model: Any, adapter: Adapter, manifest: dict[str, Any]) -> dict[str, bytes]:
    """File name -> contents of a saved adapter; ``model`` is PEFT's, for its configuration.

    The manifest comes last: a folder that has it has everything.
    """
    arrays = {name: array.copy() for name, array in adapter.arrays.items()}
    config = model.peft_config["default"].to_dict()
    config["base_model_name_or_path"] = manifest["base_model"]["name"]  # never a path of this machine
    config["inference_mode"] = True
    config["target_modules"] = sorted(config["target_modules"])
    config = {key: value for key, value in config.items() if value is not None}
    return {
        # "format": "pt" is what PEFT's loader looks for.
        "adapter_model.safetensors": safetensors_bytes(arrays, {"format": "pt"}),
        "adapter_config.json": _json_bytes(config),
        MANIFEST: _json_bytes({"format": FORMAT, "version": VERSION, **manifest}),
    }


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a saved adapter. Raises ``ValueError`` where there is none that this version reads."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path}: cannot be read as the manifest of a fedmedlora adapter ({type(error).__name__}); "
            "give the folder that `run` wrote under adapters/"
        ) from error
    if (
        not isinstance(manifest, dict)
        or manifest.get("format") != FORMAT
        or manifest.get("version") != VERSION
    ):
        raise ValueError(f"{path}: format and version must be {FORMAT!r} and {VERSION}")
    missing = [key for key in _KEYS if key not in manifest]
    if missing:
        raise ValueError(f"{path}: {', '.join(missing)} missing")
    return manifest


def read_saved_adapter(folder: Path) -> Adapter:
    """The arrays of a saved adapter. Raises ``ValueError`` for a file that is not one."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as safetensors_load

    path = folder / "adapter_model.safetensors"
    try:
        return Adapter(safetensors_load(path.read_bytes()))
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path}: cannot be read as an adapter ({type(error).__name__})") from error


def refuse_mismatch(manifest: dict[str, Any], base: BaseModel, **expected: Any) -> None:
    """Raise ``ValueError`` where the adapter was made for something else than what is here.

    ``expected``: values of manifest keys as this installation would have them.
    """
    made_for = manifest["base_model"]
    if made_for["hash"] != base.hash:
        raise ValueError(
            f"the adapter was trained over base model {made_for['name']!r} "
            f"(sha256 {made_for['hash'][:12]}...), the one given is {base.name!r} "
            f"(sha256 {base.hash[:12]}...); give the same base model (--model)"
        )
    for key, value in expected.items():
        if manifest[key] != value:
            raise ValueError(
                f"the adapter was trained with another {key.replace('_', ' ')} than this version of "
                "fedmedlora has; use the version it was trained with "
                f"({manifest.get('fedmedlora', 'unknown')}), or train again"
            )


def _json_bytes(record: Any) -> bytes:
    return (json.dumps(record, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()

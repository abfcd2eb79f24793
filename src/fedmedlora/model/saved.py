"""An adapter on disk: PEFT's own two files, and ``fedmedlora.json`` with what it was trained for.

Plain PEFT loads the folder. Our ``extract`` also reads the manifest and refuses to run an adapter on
another base model, with other prompts or under another segmentation than it was trained with: such a
run would give results, only wrong ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from safetensors.numpy import save as safetensors_bytes

from fedmedlora.exchange.adapter import Adapter, refuse_non_finite

FORMAT, VERSION = "fedmedlora-adapter-manifest", 1
MANIFEST = "fedmedlora.json"
# Settings of PEFT's that would make something else of the same arrays.
_CHANGES_LORA = (
    "use_rslora",
    "use_dora",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "layer_replication",
    "lora_bias",
)
# Key -> its type, or the keys it has to have. A manifest may come from anywhere, so all of it is checked.
_SHAPE: dict[str, Any] = {
    "base_model": {
        "name": str,
        "is_folder": bool,
        "hash": str,
        "revision": str,
        "precision": str,
        "quantization": str,
    },
    "adapter": {"rank": int, "alpha": (int, float), "targets": (str, list)},
    "schema": {"name": str, "entities": [str], "modifiers": [str], "pairs": [str]},
    "annotates": {"entities": [str], "pairs": [str]},
    "tasks": {"names": [str], "modifier_scope": str, "prompt_set": str},
    "prompts": {},
    "trained_prompts": [{"annotates": {"entities": [str], "pairs": [str]}}],
    "output_form": str,
    "loss": str,
    "readable_by_generate": bool,
    "segmentation_version": int,
    "frame": {"before": str, "after": str},
    "tokenizer_hash": str,
}


class Named(Protocol):
    """A base model as far as an adapter has to know it: loaded, or files that another program loads."""

    @property
    def name(self) -> str:
        """A folder, a hub name or the demo model's."""

    @property
    def hash(self) -> str:
        """See ``load.BaseModel``."""


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
    except (OSError, ValueError, RecursionError) as error:
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
    _check(manifest, _SHAPE, str(path))
    shape = manifest["adapter"]
    if not isinstance(shape["targets"], str):
        _check(shape["targets"], [str], f"{path}: adapter: targets")
    if not (1 <= shape["rank"] <= 65536 and 0 < shape["alpha"] < 1e9):
        raise ValueError(f"{path}: adapter: rank must be from 1 to 65536, and alpha above 0 and below 1e9")
    return manifest


def _check(value: Any, shape: Any, where: str) -> None:
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise ValueError(f"{where}: must be a table of {', '.join(shape) or 'texts'}")
        missing = [key for key in shape if key not in value]
        if missing:
            raise ValueError(f"{where}: {', '.join(missing)} missing")
        for key, inner in shape.items():
            _check(value[key], inner, f"{where}: {key}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise ValueError(f"{where}: must be a list")
        for number, one in enumerate(value, start=1):
            _check(one, shape[0], f"{where}: number {number}")
    elif not isinstance(value, shape) or (isinstance(value, bool) and shape is not bool):
        kinds = shape if isinstance(shape, tuple) else (shape,)
        raise ValueError(f"{where}: must be of type {' or '.join(kind.__name__ for kind in kinds)}")


def read_saved_adapter(folder: Path) -> Adapter:
    """The arrays of a saved adapter. Raises ``ValueError`` for a file that is not one."""
    from safetensors import SafetensorError
    from safetensors.numpy import load as safetensors_load

    path = folder / "adapter_model.safetensors"
    try:
        adapter = Adapter(safetensors_load(path.read_bytes()))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as an adapter ({type(error).__name__})") from error
    refuse_non_finite(adapter, str(path))  # it would find nothing, and nobody would know why
    return adapter


def refuse_mismatch(manifest: dict[str, Any], base: Named, **expected: Any) -> None:
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


def refuse_other_config(manifest: dict[str, Any], folder: Path) -> None:
    """Raise ``ValueError`` where PEFT's own file would make another adapter of it for other programs."""
    path = folder / "adapter_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}: cannot be read ({type(error).__name__})") from error
    shape = manifest["adapter"]
    if not isinstance(config, dict) or (config.get("r"), config.get("lora_alpha")) != (
        shape["rank"],
        shape["alpha"],
    ):
        raise ValueError(f"{path.name}: another rank (r) or lora_alpha than {MANIFEST} has")
    more = [key for key in _CHANGES_LORA if config.get(key)]
    if more:
        raise ValueError(f"{path.name}: {more[0]}: an adapter that `run` wrote is plain LoRA, without it")


def _json_bytes(record: Any) -> bytes:
    return (json.dumps(record, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()

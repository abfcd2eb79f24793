"""The README of an exported folder: where it comes from, in a few lines, and nothing of any note."""

from __future__ import annotations

import json
from typing import Any

from fedmedlora.model.saved import MANIFEST

_WHAT = {
    "peft": "a LoRA adapter in PEFT's format",
    "merged": "the base model with a LoRA adapter merged into its weights",
    "gguf": "the base model with a LoRA adapter merged into its weights, for llama.cpp and Ollama",
    "gguf-adapter": "a LoRA adapter for llama.cpp and Ollama, to go with a GGUF file of its base model",
}


def card(manifest: dict[str, Any], adapter_hash: str, *, to: str, precision: str, version: str) -> str:
    """``precision``: of the weights in the folder. ``version``: of fedmedlora."""
    base, shape = manifest["base_model"], manifest["adapter"]
    method = shape.get("method")
    made_by = f", trained by {_one_line(method)}" if isinstance(method, str) else ""
    library = "peft" if to == "peft" else "gguf" if to.startswith("gguf") else "transformers"
    # A folder's name is no address.
    address = [] if base["is_folder"] else [f"base_model: {json.dumps(base['name'])}"]
    return "\n".join(
        [
            "---",
            *address,
            f"library_name: {library}",
            "---",
            "",
            f"# {_one_line(base['name'])}, fine-tuned across sites",
            "",
            f"This is {_WHAT[to]}, in {precision}. Written by fedmedlora {version}.",
            "",
            f"* base model: {_one_line(base['name'])}, sha256 of its weight files {_one_line(base['hash'])}",
            f"* adapter: rank {shape['rank']}, alpha {shape['alpha']}{made_by}, sha256 {adapter_hash}",
            f"* how to ask it: `{MANIFEST}` has the instructions (`prompts`) and what stands around them "
            "(`frame`), word for word; asked otherwise it answers, only wrongly",
            "* the licence of the base model holds for it too",
            "",
        ]
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]

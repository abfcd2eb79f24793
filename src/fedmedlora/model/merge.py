"""An adapter merged into its base model: W + (alpha / rank) B A for every layer that it changes.

Hu et al., LoRA, arXiv:2106.09685, section 4.1: merged, the adapter costs nothing when the model runs, and any
program that knows the base model's architecture runs the result. The sum is taken in float32 and cast once,
so bfloat16 and float16 weights are the nearest to it. Everything is done on the CPU, one weight at a time.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.model.files import ModelFiles, config_of
from fedmedlora.model.load import first_line
from fedmedlora.model.lora import attach_lora, write_adapter

BASE = "base"  # the precision of the base model's own files
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# What a tokenizer reads, whatever its kind, and how the model generates: taken over as they are.
_TAKEN_OVER = (
    "tokenizer*",
    "*.model",
    "*.tiktoken",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template*",
    "generation_config.json",
)


def refuse_quantized(files: ModelFiles) -> None:
    """Raise ``ValueError`` for a base model whose files hold few-bit weights: there is nothing to add to."""
    found = getattr(config_of(files), "quantization_config", None)
    if found is None:
        return
    how = found.get("quant_method", "") if isinstance(found, dict) else getattr(found, "quant_method", "")
    raise ValueError(
        f"base model {files.name!r}: its weights are quantized already ({getattr(how, 'value', how)}), and "
        "an adapter can only be merged into full ones; export --to peft and load both in the other "
        'program, or train over the full model (quantization = "nf4" makes four bits of it while it trains)'
    )


def size(files: ModelFiles) -> tuple[int, int]:
    """(numbers, bytes) in the base model's weight files, out of their headers."""
    num_values = num_bytes = 0
    for path in sorted(files.folder.glob("*.safetensors")):
        num_bytes += path.stat().st_size
        with safe_open(path, framework="np") as file:
            num_values += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    return num_values, num_bytes


def load_both(files: ModelFiles, shape: dict[str, Any], adapter: Adapter) -> Any:
    """PEFT's model: the base model in the precision of its files, and ``adapter`` on it, in float32.

    ``shape``: the manifest's ``adapter``. Raises ``ValueError`` where they do not fit, and for an adapter
    that cannot be merged.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        base = AutoModelForCausalLM.from_pretrained(
            files.folder, dtype="auto", use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        raise ValueError(f"base model {files.name!r} cannot be loaded: {first_line(error)}") from error
    base.config._name_or_path = ""  # a path of this machine
    embedding = base.get_input_embeddings().weight
    model = attach_lora(base, rank=shape["rank"], alpha=shape["alpha"], targets=shape["targets"])
    write_adapter(model, adapter)
    for name, module in _lora_layers(model).items():
        if module.base_layer.weight is embedding:
            raise ValueError(
                f"the adapter changes {name}, which this model shares with its embedding of tokens: merging "
                "would change both; export --to peft"
            )
    return model


def merged_weights(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Name in the base model -> weight with the adapter in it, float32, one at a time; shared ones once."""
    layers = _lora_layers(model)
    for name, weight in _base_weights(model):
        layer = layers.get(name.removesuffix(".weight"))
        found = weight.detach().float()
        if layer is not None:
            # For layers that keep their weights transposed, too.
            found = found + layer.get_delta_weight("default").detach().float()
        yield name, found


def weight_shapes(model: Any) -> dict[str, tuple[int, ...]]:
    """The names that ``merged_weights`` gives, in its order, with their shapes."""
    return {name: tuple(weight.shape) for name, weight in _base_weights(model)}


def base_precision(model: Any) -> str:
    """The precision of the base model's files by its name here. Raises ``ValueError`` for another."""
    dtype = model.get_base_model().dtype
    found = next((name for name, known in PRECISIONS.items() if known == dtype), None)
    if found is None:
        raise ValueError(f"the base model's weights are {dtype}; choose --precision {', '.join(PRECISIONS)}")
    return found


def write_merged(model: Any, files: ModelFiles, folder: Path, precision: str) -> str:
    """Write the merged model into ``folder`` as transformers does, with the base model's own tokenizer files.

    ``model`` becomes the merged model. Returns the precision by name. Raises ``ValueError`` for a weight that
    ``precision`` cannot hold.
    """
    from transformers import GenerationConfig

    precision = base_precision(model) if precision == BASE else precision
    dtype = PRECISIONS[precision]
    targets = dict(_base_weights(model))
    for name, weight in merged_weights(model):
        targets[name].data = cast(weight, dtype, name)
    base = model.unload()
    base.config.dtype = dtype
    if (files.folder / "generation_config.json").exists():  # not all that are in use would be written again
        base.generation_config = GenerationConfig.from_model_config(base.config)
    base.save_pretrained(folder)
    copy_tokenizer(files, folder)
    return precision


def cast(weight: torch.Tensor, dtype: torch.dtype, name: str) -> torch.Tensor:
    """``weight`` in ``dtype``. Raises ``ValueError`` where that makes infinities of it, or it is none."""
    found = weight.to(dtype)
    if not torch.isfinite(found).all():
        raise ValueError(
            f"{name} holds numbers that {str(dtype).removeprefix('torch.')} cannot (its largest is "
            f"{weight.abs().max().item():.3g}); choose --precision float32 or bfloat16"
        )
    return found


def copy_tokenizer(files: ModelFiles, folder: Path) -> None:
    """The base model's tokenizer files and ``generation_config.json``, byte by byte."""
    for pattern in _TAKEN_OVER:
        for path in files.folder.glob(pattern):
            if path.is_file():
                shutil.copyfile(path, folder / path.name)


def _base_weights(model: Any) -> list[tuple[str, torch.nn.Parameter]]:
    """(name in the base model, weight); a weight that two layers share comes once, under the first's name."""
    return [
        (name.replace(".base_layer.", "."), weight)
        for name, weight in model.get_base_model().named_parameters()
        if ".lora_" not in name
    ]


def _lora_layers(model: Any) -> dict[str, Any]:
    """Name in the base model -> PEFT's layer there."""
    from peft.tuners.lora import LoraLayer

    found = model.get_base_model().named_modules()
    return {name: module for name, module in found if isinstance(module, LoraLayer)}

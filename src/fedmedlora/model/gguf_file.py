"""GGUF files, written by the package ``gguf``: a whole model, or a LoRA adapter for one.

llama.cpp's own converter of transformers' models is a script of its repository, which it publishes as no
package; ``gguf``, which it does publish, holds the format, the names of tensors and the quantization.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.model.gguf_layout import Key, Layout, interleave, tensor_names
from fedmedlora.model.gguf_tokens import Vocabulary

# Precision -> (GGML's type of a matrix, of the whole file). Eight bits: blocks of 32 with one float16 scale.
_TYPES = {
    "float32": ("F32", "ALL_F32"),
    "float16": ("F16", "MOSTLY_F16"),
    "bfloat16": ("BF16", "MOSTLY_BF16"),
    "q8_0": ("Q8_0", "MOSTLY_Q8_0"),
}
PRECISIONS = tuple(_TYPES)
_QUANTIZATION_VERSION = 2
_A, _B = ".lora_A.weight", ".lora_B.weight"
_PEFT_PREFIX = "base_model.model."

Weights = Iterable[tuple[str, npt.NDArray[np.float32]]]


def refuse_without_library() -> None:
    """Raise ``ValueError`` where the package ``gguf`` is not installed."""
    if importlib.util.find_spec("gguf") is None:
        raise ValueError("--to gguf needs the package gguf: pip install 'fedmedlora[gguf]'")


def write_model(
    path: Path,
    model: Layout,
    vocabulary: Vocabulary,
    weights: Weights,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    precision: str,
    about: Mapping[str, str],
) -> None:
    """Write a model as one GGUF file.

    ``weights``: transformers' name -> array, in the order of ``shapes``; one is in memory at a time.
    ``about``: further text under full key names, such as ``general.name``. Vectors stay float32, as
    llama.cpp expects, and with q8_0 a matrix whose rows are no multiple of 32 is float16.
    Raises ``ValueError`` for a weight that ``precision`` cannot hold.
    """
    import gguf

    names = tensor_names(model, shapes)
    kinds = {name: _kind(shape, precision) for name, shape in shapes.items()}
    writer = _writer(path, model, {"general.type": "model", **about, **model.keys})
    writer.add_file_type(gguf.LlamaFileType[_TYPES[precision][1]])
    writer.add_quantization_version(_QUANTIZATION_VERSION)
    _add_vocabulary(writer, vocabulary)
    if model.rope_factors:
        writer.add_tensor("rope_freqs.weight", np.array(model.rope_factors, np.float32))
    for name, shape in shapes.items():
        _announce(writer, names[name], shape, kinds[name])
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if model.rope_factors:
            writer.write_tensor_data(np.array(model.rope_factors, np.float32))
        for name, weight in weights:
            writer.write_tensor_data(_packed(interleave(model, name, weight), kinds[name], name))
    finally:
        writer.close()


def write_adapter_file(
    path: Path, model: Layout, adapter: Adapter, alpha: float, *, about: Mapping[str, str]
) -> None:
    """Write ``adapter`` as a GGUF adapter, float32, for a GGUF file of its base model.

    The rows that change places in the base model's weights do so in B, whose rows are theirs.
    """
    layers = sorted({name.removesuffix(_A).removesuffix(_B) for name in adapter.arrays})
    targets = tensor_names(model, [f"{layer.removeprefix(_PEFT_PREFIX)}.weight" for layer in layers])
    keys: dict[str, Key] = {
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": float(alpha),
    }
    writer = _writer(path, model, {**about, **keys})
    for layer, (name, target) in zip(layers, targets.items(), strict=True):
        writer.add_tensor(f"{target}.lora_a", np.array(adapter.arrays[layer + _A]))
        writer.add_tensor(f"{target}.lora_b", interleave(model, name, np.array(adapter.arrays[layer + _B])))
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def num_bytes(shapes: Iterable[tuple[int, ...]], precision: str) -> int:
    """Of the arrays as they are written."""
    return sum(_num_bytes(shape, _kind(shape, precision)) for shape in shapes)


def _writer(path: Path, model: Layout, keys: Mapping[str, Key]) -> Any:
    import gguf

    writer = gguf.GGUFWriter(path, model.architecture)
    for name, value in keys.items():
        if isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        else:
            writer.add_float32(name, value)
    return writer


def _add_vocabulary(writer: Any, found: Vocabulary) -> None:
    writer.add_tokenizer_model("gpt2")  # what llama.cpp calls byte-level BPE
    writer.add_tokenizer_pre(found.rule)
    writer.add_token_list(found.tokens)
    writer.add_token_types(found.kinds)
    if found.merges:
        writer.add_token_merges(found.merges)
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    for role, number in found.special.items():
        writer.add_uint32(f"tokenizer.ggml.{names[role]}_token_id", number)
    writer.add_add_bos_token(found.adds_bos)
    writer.add_add_eos_token(False)
    if found.template:
        writer.add_chat_template(found.template)


def _announce(writer: Any, name: str, shape: tuple[int, ...], kind: Any) -> None:
    # The type that is given here counts for nothing beside ``kind``.
    writer.add_tensor_info(name, shape, np.dtype(np.float32), _num_bytes(shape, kind), raw_dtype=kind)


def _kind(shape: tuple[int, ...], precision: str) -> Any:
    import gguf

    types = gguf.GGMLQuantizationType
    if len(shape) == 1:
        return types.F32
    kind = types[_TYPES[precision][0]]
    return kind if shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0 else types.F16


def _num_bytes(shape: tuple[int, ...], kind: Any) -> int:
    import gguf

    num_in_block, num_bytes_of_block = gguf.GGML_QUANT_SIZES[kind]
    return math.prod(shape) // int(num_in_block) * int(num_bytes_of_block)


def _packed(weight: npt.NDArray[np.float32], kind: Any, name: str) -> npt.NDArray[Any]:
    import gguf

    largest = float(np.abs(weight).max(initial=0.0))
    if kind == gguf.GGMLQuantizationType.F16:
        limit = float(np.finfo(np.float16).max)
    else:  # q8_0 keeps the scale of a block, its largest number / 127, in float16
        limit = 127 * 65504.0 if kind == gguf.GGMLQuantizationType.Q8_0 else math.inf
    if not largest <= limit or math.isinf(largest):
        raise ValueError(
            f"{name} holds numbers that {kind.name.lower()} cannot (its largest is {largest:.3g}); choose "
            "--precision float32 or bfloat16"
        )
    return np.ascontiguousarray(gguf.quants.quantize(weight, kind))

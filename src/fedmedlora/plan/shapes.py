"""A model without its weights: its configuration, and the module tree on torch's meta device with LoRA on it.

The tree is what transformers and PEFT build for training, so parameters, names and shapes are exact.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch

from fedmedlora.model.load import PRECISIONS, BaseModel
from fedmedlora.model.lora import adapter_shapes, attach_lora
from fedmedlora.model.tokens import Encoder
from fedmedlora.model.weights import model_shapes
from fedmedlora.settings import nearest
from fedmedlora.study_tables import Lora


@dataclass(frozen=True, eq=False)
class ModelConfig:
    """``config``: transformers' own. ``source``: where it comes from, in words."""

    name: str
    config: Any
    source: str


@dataclass(frozen=True, eq=False)
class ShapeModel:
    """PEFT's model over the base model, both on the meta device.

    ``adapter``, ``whole``: name -> shape of LoRA's factors, and of the base model's own arrays.
    """

    model: Any
    adapter: dict[str, tuple[int, ...]]
    whole: dict[str, tuple[int, ...]]
    precision: str

    @property
    def num_parameters(self) -> int:
        """Of the base model."""
        return num_in(self.whole)


class _AnyTokens:
    """What training asks of a tokenizer: the id that fills rows up, and on the meta device any is as good."""

    pad_id = 0


def meta_base(shapes: ShapeModel, encoder: Encoder | None = None) -> BaseModel:
    """The base model of ``shapes`` as training takes it; no weights, no device."""
    return BaseModel(
        name="",
        hash="",
        model=shapes.model.get_base_model(),
        encoder=encoder or cast(Encoder, _AnyTokens()),
        device=torch.device("meta"),
        num_parameters=shapes.num_parameters,
        precision=shapes.precision,
        quantization="none",
        revision="",
    )


def num_in(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Numbers in arrays of these ``shapes``."""
    return sum(math.prod(shape) for shape in shapes.values())


@cache
def known_shapes() -> dict[str, dict[str, Any]]:
    """Short name -> the numbers of ``shapes.toml``."""
    text = (Path(__file__).parent / "shapes.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def find_config(name: str, revision: str = "") -> ModelConfig:
    """The configuration of the model ``name``: a folder, a known shape, or a hub name in the local cache.

    Asks no network. Raises ``ValueError`` for a model that is none of them, and says what to do.
    """
    from transformers import AutoConfig

    if Path(name).is_dir():
        try:
            return ModelConfig(name, AutoConfig.from_pretrained(name), "config.json of its folder")
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(
                f"[model] name: the folder {name!r} has no config.json that transformers reads; give a "
                "folder that save_pretrained wrote"
            ) from error
    for short, table in known_shapes().items():
        if name == short or name in table["names"]:
            numbers = {key: value for key, value in table.items() if key not in ("names", "model_type")}
            config = AutoConfig.for_model(table["model_type"], **numbers)
            return ModelConfig(name, config, f"known shape {short}")
    try:
        config = AutoConfig.from_pretrained(name, revision=revision or "main", local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        shorts = tuple(known_shapes())
        raise ValueError(
            f"[model] name: the shape of {name!r} is not known{nearest(name, shorts) or '.'} Give a folder "
            "that holds its config.json (the weights are not needed), load it once so that it is in the "
            f"local cache, or name one of the known shapes: {', '.join(shorts)}"
        ) from error
    return ModelConfig(name, config, "config.json in the local cache")


def shape_model(found: ModelConfig, adapter: Lora, precision: str) -> ShapeModel:
    """The model with a fresh adapter, on the meta device, weights in ``precision``.

    Raises ``ValueError`` for a target that matches no layer, and for a model that transformers cannot build.
    """
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            base = AutoModelForCausalLM.from_config(found.config, dtype=PRECISIONS[precision])
    except (ValueError, ImportError) as error:
        raise ValueError(
            f"[model] name: {found.name!r} ({found.config.model_type}) is no causal language model that "
            "transformers builds"
        ) from error
    base.requires_grad_(False)
    model = attach_lora(
        base, rank=adapter.rank, alpha=adapter.alpha, dropout=adapter.dropout, targets=adapter.targets
    )
    return ShapeModel(model, adapter_shapes(model), model_shapes(model), precision)

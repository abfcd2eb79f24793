"""An adapter over a tiny model, as ``run`` saves it: random numbers, and everything else as it would be."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory, encoder, save_model):
    """The folder of a tiny llama whose tokenizer has a chat template."""
    tokenizer = copy.deepcopy(encoder.tokenizer)
    tokenizer.chat_template = CHAT
    return save_model(tmp_path_factory.mktemp("base") / "tiny-llama", tokenizer=tokenizer)


def save_adapter(
    base_folder: Path | str,
    folder: Path,
    *,
    names=("ner", "modifiers"),
    form: str = "markup",
    loss: str = "lm+decision",
    targets="all-linear",
    scale: float = 0.3,
    **base_model: Any,
):
    """Write an adapter into ``folder``; returns PEFT's model with it, and the adapter.

    ``base_model``: what the manifest says of the base model, other than it is.
    """
    import numpy as np

    from fedmedlora.corpora.note import Annotates
    from fedmedlora.corpora.schema import CLINICAL
    from fedmedlora.exchange.adapter import Adapter
    from fedmedlora.manifest import manifest
    from fedmedlora.model.load import load_base_model
    from fedmedlora.model.lora import attach_lora, read_adapter, write_adapter
    from fedmedlora.model.saved import adapter_files
    from fedmedlora.run_folder import write_file

    base = load_base_model(str(base_folder), precision="float32")
    model = attach_lora(base.model, rank=2, alpha=4.0, targets=targets)
    rng = np.random.default_rng(2)
    shapes = {name: array.shape for name, array in read_adapter(model).arrays.items()}
    adapter = Adapter({n: rng.normal(scale=scale, size=s).astype(np.float32) for n, s in shapes.items()})
    write_adapter(model, adapter)
    asked = Annotates(frozenset({"problem", "drug"}), frozenset({"problem.negation", "drug.dosage"}))
    record = manifest(
        base,
        CLINICAL,
        [asked],
        tasks={"names": list(names), "modifier_scope": "entity", "prompt_set": "short"},
        adapter={"rank": 2, "alpha": 4.0, "targets": targets, "method": "fed_medlora", "num_rounds": 3},
        loss=loss,
        form=form,
    )
    record["base_model"] |= base_model
    for name, content in adapter_files(model, adapter, record).items():
        write_file(folder / name, content)
    return model, adapter


@pytest.fixture
def saved_adapter(chat_model, tmp_path):
    """The folder of an adapter."""
    save_adapter(chat_model, tmp_path / "fed_medlora")
    return tmp_path / "fed_medlora"

"""The adapter that is read with: trained for a few steps, once, and kept for the rows that follow.

An untrained one would open tags at random, and free ``generate`` would not copy, so neither side would do the
work that it does in earnest. It is no good model: its answers are counted, not scored.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.model.lora import read_adapter, write_adapter
from fedmedlora.training.site import LocalTraining, train_round
from rows.machine import fast_precision
from rows.models import load, with_lora
from rows.sentences import examples, source
from rows.setting import DEMO, Setting, say

FOLDER = "adapters"
# By form, where it is not the default: tags are decisions and no text, JSON is text without decisions.
LOSSES = {"tags": "decision", "json": "lm"}


def adapter_of(shape: str, form: str, setting: Setting, work: Path) -> Adapter:
    """The adapter of ``shape`` for ``form``, trained now where it is not in ``work`` yet."""
    num_steps = 2 if setting.smoke else 24 if shape == DEMO else 40
    key = f"{shape}/{form}/{setting.smoke}/{setting.layers}/{num_steps}/{source(setting)}"
    path = work / FOLDER / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
    if path.exists():
        return Adapter(load_file(path))
    # In the precision that is fast here, whatever it is read in.
    base = load(shape, "float32" if setting.smoke else fast_precision(setting.device), setting)
    model = with_lora(base)
    chosen = [base.encoder.encode(e) for e in examples(setting, "train", "ner", 8 * num_steps, form=form)]
    how = LocalTraining(
        num_rounds=1,
        examples_per_step=8,
        steps=num_steps,
        warmup_steps=3,
        learning_rate=2e-3,
        micro_batch=8,
        loss=LOSSES.get(form, "lm+decision"),
    )
    began = time.perf_counter()
    result = train_round(base, model, read_adapter(model), chosen, how, site="bench", round_num=1, seed=0)
    say(
        f"trained an adapter: {num_steps} steps of 8, loss {result.train_loss:.3f}, "
        f"{time.perf_counter() - began:.0f} s"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: array.copy() for name, array in result.adapter.arrays.items()}, path)
    return result.adapter


def put_into(model: Any, adapter: Adapter) -> Any:
    """``model`` with ``adapter`` in it, ready to read."""
    write_adapter(model, adapter)
    return model.eval()

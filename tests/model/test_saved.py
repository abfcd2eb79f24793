"""An adapter on disk: plain PEFT reads it, and ours refuses to read it for another purpose."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from peft import PeftModel

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.experiment import manifest as make_manifest
from fedmedlora.extract import load_into
from fedmedlora.model.lora import attach_lora, read_adapter, write_adapter
from fedmedlora.model.saved import adapter_files, read_manifest, read_saved_adapter, refuse_mismatch
from fedmedlora.run_folder import write_file

IDS = torch.arange(24).reshape(2, 12)


def manifest_for(base, *, loss="lm+decision", **adapter):
    return make_manifest(
        base,
        schema_name="clinical",
        annotates={"entities": ["problem"], "pairs": []},
        prompts={"ner": "Mark it."},
        tasks={"ner": True, "modifiers": False, "modifier_scope": "entity", "prompt_set": "short"},
        adapter={"rank": 3, "alpha": 6.0, "targets": "all-linear", "method": "fed_medlora", **adapter},
        loss=loss,
    )


def save(folder, base, **settings):
    """A trained-looking adapter in ``folder``, and the logits it should give."""
    record = manifest_for(base, **settings)
    targets = record["adapter"]["targets"]
    model = attach_lora(base.model, rank=3, alpha=6.0, targets=targets, dropout=0.1)
    rng = np.random.default_rng(0)
    drawn = {n: rng.normal(size=a.shape).astype(np.float32) for n, a in read_adapter(model).arrays.items()}
    adapter = Adapter(drawn)
    write_adapter(model, adapter)
    for name, content in adapter_files(model, adapter, record).items():
        write_file(folder / name, content)
    return adapter, model(IDS).logits


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"]])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt_neox"])
def test_plain_peft_gives_the_same_logits(load, tmp_path, kind, targets):
    if kind == "gpt_neox" and targets != "all-linear":
        targets = ["query_key_value"]
    adapter, expected = save(tmp_path, load(kind), targets=targets)
    plain = PeftModel.from_pretrained(load(kind).model, str(tmp_path)).eval()
    assert torch.equal(plain(IDS).logits, expected)
    # And so does our own way of loading it.
    base = load(kind)
    ours = load_into(base, read_manifest(tmp_path), tmp_path)
    assert torch.equal(ours(IDS).logits, expected)
    assert read_saved_adapter(tmp_path) == adapter


def test_files_name_no_path_of_this_machine(load, tmp_path, model_folders):
    save(tmp_path, load())
    for name in ("adapter_config.json", "fedmedlora.json"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert str(model_folders["llama"].parent) not in text
        assert str(tmp_path) not in text
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "llama"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "fedmedlora.json",
    ]


@pytest.mark.parametrize(("loss", "readable"), [("lm+decision", True), ("lm", True), ("decision", False)])
def test_an_adapter_trained_on_decisions_alone_is_marked(load, tmp_path, loss, readable):
    save(tmp_path, load(), loss=loss)
    assert read_manifest(tmp_path)["readable_by_generate"] is readable


def test_a_mismatch_is_refused(load, tmp_path):
    save(tmp_path, load())
    found = read_manifest(tmp_path)
    right = {
        "schema": "clinical",
        "segmentation_version": found["segmentation_version"],
        "output_form": "markup",
        "prompts": {"ner": "Mark it."},
    }
    refuse_mismatch(found, load(), **right)
    with pytest.raises(ValueError, match=r"trained over base model 'llama'.*--model"):
        refuse_mismatch(found, load("qwen2"), **right)
    wrong = {
        "schema": "veterinary",
        "segmentation_version": found["segmentation_version"] + 1,
        "output_form": "json",
        "prompts": {"ner": "Mark it!"},
    }
    for key, value in wrong.items():
        with pytest.raises(ValueError, match=f"trained with another {key.replace('_', ' ')}"):
            refuse_mismatch(found, load(), **{**right, key: value})


def test_what_is_no_manifest_is_refused(load, tmp_path):
    with pytest.raises(ValueError, match="give the folder that `run` wrote under adapters/"):
        read_manifest(tmp_path)
    save(tmp_path, load())
    path = tmp_path / "fedmedlora.json"
    whole = json.loads(path.read_text())
    for broken in (b"{", b"[]", b"\xff\xfe", json.dumps({**whole, "version": 2}).encode()):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"fedmedlora\.json: "):
            read_manifest(tmp_path)
    path.write_text(json.dumps({k: v for k, v in whole.items() if k not in ("prompts", "loss")}))
    with pytest.raises(ValueError, match="prompts, loss missing"):
        read_manifest(tmp_path)


def test_what_is_no_adapter_is_refused(load, tmp_path):
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors: cannot be read"):
        read_saved_adapter(tmp_path)
    save(tmp_path, load())
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors: cannot be read"):
        read_saved_adapter(tmp_path)

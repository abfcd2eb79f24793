"""An adapter on disk: plain PEFT reads it, and ours refuses to read it for another purpose."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel

from fedmedlora import manifest as manifest_module
from fedmedlora.corpora.note import Annotates, Note
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.extract import load_into
from fedmedlora.manifest import manifest as make_manifest
from fedmedlora.model.lora import attach_lora, read_adapter, write_adapter
from fedmedlora.model.saved import adapter_files, read_manifest, read_saved_adapter, refuse_mismatch
from fedmedlora.run_folder import write_file
from fedmedlora.tasks.prompts import instruction

IDS = torch.arange(24).reshape(2, 12)


def manifest_for(base, *, loss="lm+decision", **adapter):
    return make_manifest(
        base,
        CLINICAL,
        [Annotates(frozenset({"problem"}), frozenset())],
        tasks={"names": ["ner"], "modifier_scope": "entity", "prompt_set": "short"},
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
@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt_neox", "gpt2"])
def test_plain_peft_gives_the_same_logits(load, tmp_path, kind, targets):
    if kind == "gpt_neox" and targets != "all-linear":
        targets = ["query_key_value"]
    if kind == "gpt2" and targets != "all-linear":
        targets = ["c_attn"]
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
    keys = (
        "schema", "segmentation_version", "output_form", "prompts", "trained_prompts", "frame",
        "tokenizer_hash",
    )  # fmt: skip
    right = {key: found[key] for key in keys}
    refuse_mismatch(found, load(), **right)
    with pytest.raises(ValueError, match=r"trained over base model 'llama'.*--model"):
        refuse_mismatch(found, load("qwen2"), **right)
    for key in keys:
        with pytest.raises(ValueError, match=f"trained with another {key.replace('_', ' ')}"):
            refuse_mismatch(found, load(), **{**right, key: "other"})


def test_the_manifest_says_what_the_adapter_was_trained_on(load):
    base = load()
    parts = [
        Annotates(frozenset({"problem"}), frozenset()),
        Annotates(frozenset({"drug"}), frozenset({"drug.dosage"})),
        Annotates(frozenset({"problem"}), frozenset()),
    ]
    tasks = {"names": ["ner", "modifiers"], "modifier_scope": "entity", "prompt_set": "short"}
    found = make_manifest(base, CLINICAL, parts, tasks=tasks, adapter={}, loss="lm")
    assert found["annotates"] == {"entities": ["drug", "problem"], "pairs": ["drug.dosage"]}
    drug, problem = found["trained_prompts"]  # each combination once
    assert (drug["annotates"]["entities"], set(drug)) == (["drug"], {"annotates", "ner", "modifiers"})
    assert (problem["annotates"]["entities"], set(problem)) == (["problem"], {"annotates", "ner"})
    for one, part in ((drug, parts[1]), (problem, parts[0])):
        assert one["ner"] == instruction("ner", CLINICAL, part, prompt_set="short", scope="entity")
    both = manifest_module.union(parts)
    assert found["prompts"]["ner"] == instruction("ner", CLINICAL, both, prompt_set="short", scope="entity")
    assert found["schema"]["entities"] == list(CLINICAL.entities)
    assert found["base_model"]["precision"] == "float32"
    # The frame and the instruction are what stands before every input, token by token.
    before = found["frame"]["before"].replace("{instruction}", drug["ner"])
    ids = base.encoder.tokenizer(before, add_special_tokens=False).input_ids
    assert base.encoder.prefix(drug["ner"])[-len(ids) :] == tuple(ids)
    no_modifiers = make_manifest(
        base, CLINICAL, parts, tasks={**tasks, "names": ["ner"]}, adapter={}, loss="lm"
    )
    assert set(no_modifiers["prompts"]) == {"ner"}


def test_another_tokenizer_has_another_hash(load):
    assert load().encoder.tokenizer_hash() == load().encoder.tokenizer_hash()
    other = load()
    other.encoder.tokenizer.add_tokens(["zzz"])
    assert other.encoder.tokenizer_hash() != load().encoder.tokenizer_hash()


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


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("base_model",), [], "base_model: must be a table of name, is_folder, hash"),
        (("base_model", "hash"), 7, "base_model: hash: must be of type str"),
        (("base_model", "hash"), None, "base_model: hash: must be of type str"),
        (("adapter", "rank"), "8", "adapter: rank: must be of type int"),
        (("adapter", "rank"), True, "adapter: rank: must be of type int"),
        (("adapter", "alpha"), "8", "adapter: alpha: must be of type int or float"),
        (("annotates", "entities"), {}, "annotates: entities: must be a list"),
        (("annotates", "entities"), [7], "annotates: entities: number 1: must be of type str"),
        (("trained_prompts",), [{}], "trained_prompts: number 1: annotates missing"),
        (("tasks", "names"), "ner", "tasks: names: must be a list"),
        (("prompts",), "x", "prompts: must be a table"),
    ],
)
def test_a_manifest_of_other_types_is_refused(load, tmp_path, place, value, words):
    save(tmp_path, load())
    path = tmp_path / "fedmedlora.json"
    record = json.loads(path.read_text())
    *above, key = place
    inner = record
    for one in above:
        inner = inner[one]
    inner[key] = value
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=re.escape(words)):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"rank": 0}, "rank must be from 1"),
        ({"rank": 10**9}, "rank must be from 1"),
        ({"alpha": 10**400}, "alpha above 0"),
        ({"alpha": float("nan")}, "alpha above 0"),
        ({"targets": [1]}, "targets: number 1: must be of type str"),
    ],
)
def test_an_adapter_of_impossible_shape_is_refused(load, tmp_path, shape, words):
    save(tmp_path, load())
    path = tmp_path / "fedmedlora.json"
    record = json.loads(path.read_text())
    record["adapter"] |= shape
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=words):
        read_manifest(tmp_path)


@pytest.mark.parametrize("text", ["[" * 200_000, "9" * 5000])
def test_a_hostile_manifest_is_refused(tmp_path, text):
    (tmp_path / "fedmedlora.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"fedmedlora\.json: cannot be read"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("harm", ["nan", "bfloat16"])
def test_an_adapter_that_finds_nothing_is_refused(load, tmp_path, harm):
    import safetensors.torch

    adapter, _ = save(tmp_path, load())
    arrays = {name: torch.from_numpy(array.copy()) for name, array in adapter.arrays.items()}
    if harm == "nan":
        next(iter(arrays.values()))[0, 0] = float("nan")
    else:
        arrays = {name: tensor.bfloat16() for name, tensor in arrays.items()}
    safetensors.torch.save_file(arrays, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors"):
        read_saved_adapter(tmp_path)


def test_what_is_no_adapter_is_refused(load, tmp_path):
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors: cannot be read"):
        read_saved_adapter(tmp_path)
    save(tmp_path, load())
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors: cannot be read"):
        read_saved_adapter(tmp_path)


def test_the_page_names_every_key_of_a_manifest(load, tmp_path):
    save(tmp_path, load())
    page = (Path(__file__).parents[2] / "docs" / "adapter.md").read_text(encoding="utf-8")
    found = json.loads((tmp_path / "fedmedlora.json").read_text())
    keys = [
        *found,
        *found["base_model"],
        *found["adapter"],
        *found["schema"],
        *found["frame"],
        *found["tasks"],
    ]
    assert [key for key in keys if f"`{key}`" not in page] == []
    assert "fedmedlora-adapter-manifest" in page
    for key in ("schema", "prompts", "trained_prompts", "frame", "tokenizer_hash", "output_form"):
        with pytest.raises(ValueError, match="trained with another"):
            refuse_mismatch(found, load(), **{key: "other"})


def test_the_prompt_is_built_as_the_page_says(load, tmp_path):
    from fedmedlora.tasks.kinds import ner

    base = load()
    save(tmp_path, base)
    found = read_manifest(tmp_path)
    note = Note("n", "BP x<90 & fever", (), (), (), Annotates(frozenset({"problem"}), frozenset()))
    (example,) = ner.examples(note, ((0, 15),), CLINICAL, prompt_set="short", with_gold=False).examples
    written = "".join(example.input)
    whole = found["frame"]["before"].replace("{instruction}", found["prompts"]["ner"]) + written
    ids = (*base.encoder.prefix(example.instruction), *base.encoder.prompt(example))
    assert base.encoder.decode(ids) == base.encoder.decode(
        base.encoder.tokenizer(whole + found["frame"]["after"]).input_ids
    )

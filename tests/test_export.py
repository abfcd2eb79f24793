"""What an adapter becomes for other programs: each is loaded again by those programs' own loaders."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from llama_cpp import LlamaCpp
from peft import AutoPeftModelForCausalLM, PeftModel
from saved_adapter import save_adapter
from transformers import AutoModelForCausalLM, AutoTokenizer

from fedmedlora import export as export_module
from fedmedlora.cli import main
from fedmedlora.corpora.note import Annotates, Note
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.export import export
from fedmedlora.extract import extract
from fedmedlora.measure import Form, predict
from fedmedlora.model.demo import demo_model_folder
from fedmedlora.model.load import load_base_model
from fedmedlora.model.saved import adapter_files, read_manifest
from fedmedlora.progress import Silent
from fedmedlora.run_folder import write_file

NOBODY = Annotates(frozenset(), frozenset())
NOTES = tuple(
    Note(str(number), text, (), (), (), NOBODY)
    for number, text in enumerate(
        ["Pt denies chest pain.", "", "He was started on aspirin 81 mg daily. No fever."], start=1
    )
)
FORM = Form(CLINICAL, prompt_set="short")
IDS = torch.arange(24).reshape(2, 12)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def command(folder, out, to, model=None, *more):
    name = [] if model is None else ["--model", str(model)]
    return main(["export", str(folder), "--to", to, "--out", str(out), *name, *more])


def asked_of(folder):
    record = read_manifest(folder)["annotates"]
    return Annotates(frozenset(record["entities"]), frozenset(record["pairs"]))


def test_peft_loads_it_and_so_do_we(saved_adapter, chat_model, tmp_path, capsys):
    out = tmp_path / "out"
    assert command(saved_adapter, out, "peft") == 0  # no base model is needed
    told = capsys.readouterr()
    assert told.out.splitlines()[0].startswith(f"{out / 'README.md'}: ")
    assert names(out) == ["README.md", "adapter_config.json", "adapter_model.safetensors", "fedmedlora.json"]
    for name in ("adapter_model.safetensors", "fedmedlora.json"):
        assert (out / name).read_bytes() == (saved_adapter / name).read_bytes()
    assert len(json.loads((out / "adapter_config.json").read_text())) == 10
    expected, _ = save_adapter(chat_model, tmp_path / "again")
    base = AutoModelForCausalLM.from_pretrained(chat_model)
    found = PeftModel.from_pretrained(base, str(out)).eval()
    assert torch.equal(found(IDS).logits, expected(IDS).logits)
    settings = {"model_name": str(chat_model), "progress": Silent()}
    assert extract(out, NOTES, **settings) == extract(saved_adapter, NOTES, **settings)


def test_peft_over_a_model_with_an_address(saved_adapter, chat_model, tmp_path, monkeypatch):
    from fedmedlora.extract import find_files

    assert command(saved_adapter, tmp_path / "folder", "peft", chat_model) == 0
    config = json.loads((tmp_path / "folder" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny-llama"  # no path of this machine
    # As a hub's name: what lies there is the same model.
    here = find_files(str(chat_model), {}, saved_adapter)
    monkeypatch.setattr(export_module, "find_files", lambda *asked: replace(here, name="org/tiny"))
    export(saved_adapter, tmp_path / "out", to="peft", model_name="org/tiny")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/tiny"
    config["base_model_name_or_path"] = str(chat_model)  # the hub is not here
    (tmp_path / "out" / "adapter_config.json").write_text(json.dumps(config))
    AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out")


def test_transformers_loads_the_merged_model_and_it_finds_the_same(
    saved_adapter, chat_model, tmp_path, capsys
):
    out = tmp_path / "out"
    assert command(saved_adapter, out, "merged", chat_model) == 0
    told = capsys.readouterr()
    assert "merging the adapter into it" in told.err
    assert [line.split(":")[0] for line in told.out.splitlines()] == [str(out / name) for name in names(out)]
    assert {
        "README.md",
        "config.json",
        "fedmedlora.json",
        "generation_config.json",
        "model.safetensors",
    } <= set(names(out))
    expected, _ = save_adapter(chat_model, tmp_path / "again")
    found = AutoModelForCausalLM.from_pretrained(out)
    torch.testing.assert_close(found(IDS).logits, expected(IDS).logits, rtol=1e-4, atol=1e-4)
    text = "Pt denies chest pain"
    assert (
        AutoTokenizer.from_pretrained(out)(text).input_ids
        == AutoTokenizer.from_pretrained(chat_model)(text).input_ids
    )
    # Read by our own decoder, with nothing on it, it finds what base and adapter find.
    merged = load_base_model(str(out), precision="float32")
    asked = [replace(note, annotates=asked_of(saved_adapter)) for note in NOTES]
    ours = predict(merged, merged.model, asked, FORM, lambda done, total: None).end_to_end
    theirs = extract(saved_adapter, NOTES, model_name=str(chat_model), progress=Silent())
    assert [ours[n.id].entities for n in NOTES] == [n.entities for n in theirs]
    assert [ours[n.id].links for n in NOTES] == [n.links for n in theirs]
    assert any(n.entities for n in theirs), "an adapter that finds nothing would prove nothing"


def frame_around(folder, text, task="ner"):
    """A prompt as the adapter's manifest says."""
    record = json.loads((folder / "fedmedlora.json").read_text())
    before, after = record["frame"]["before"], record["frame"]["after"]
    return before.replace("{instruction}", record["prompts"][task]) + text + after


def test_llama_cpp_writes_what_the_merged_model_writes(saved_adapter, chat_model, tmp_path):
    out = tmp_path / "out"
    assert command(saved_adapter, out, "gguf", chat_model) == 0
    assert names(out) == ["Modelfile", "README.md", "fedmedlora.json", "model.gguf"]
    model, _ = save_adapter(chat_model, tmp_path / "again")
    tokenizer = AutoTokenizer.from_pretrained(chat_model)
    llama = LlamaCpp(out / "model.gguf")
    prompt = frame_around(out, "Pt denies chest pain.")
    ids = tokenizer(prompt, add_special_tokens=False).input_ids
    assert llama.tokens(prompt, begin=True) == ids
    expected = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    found = llama.likely(ids)
    assert len(found) > 300
    assert max(abs(value - expected[number].item()) for number, value in found.items()) < 1e-3
    written = model.generate(
        torch.tensor([ids]), max_new_tokens=12, do_sample=False, attention_mask=torch.ones(1, len(ids))
    )
    assert llama.write(prompt, 12) == written[0, len(ids) :].tolist()
    # A chat is asked in the frame that the adapter was trained in.
    message = prompt.removeprefix("<|user|>").removesuffix("<|end|>\n<|assistant|>")
    assert llama.chat(message) == prompt


def test_the_modelfile_asks_as_the_adapter_was_trained(saved_adapter, chat_model, tmp_path):
    assert command(saved_adapter, tmp_path / "out", "gguf", chat_model) == 0
    file = (tmp_path / "out" / "Modelfile").read_text(encoding="utf-8")
    prompts = json.loads((saved_adapter / "fedmedlora.json").read_text())["prompts"]
    assert file == (
        'FROM ./model.gguf\nTEMPLATE """<|user|>{{ if .System }}{{ .System }}\n{{ end }}{{ .Prompt }}'
        f'<|end|>\n<|assistant|>"""\nSYSTEM """{prompts["ner"]}"""\nPARAMETER temperature 0\n'
        "PARAMETER repeat_penalty 1\n"
    )


def test_an_adapter_for_llama_cpp(saved_adapter, chat_model, tmp_path):
    out = tmp_path / "out"
    assert command(saved_adapter, out, "gguf-adapter", chat_model) == 0
    assert names(out) == ["Modelfile", "README.md", "adapter.gguf", "fedmedlora.json"]
    assert "FROM ./base.gguf\nADAPTER ./adapter.gguf\n" in (out / "Modelfile").read_text()
    # Its base model as a file of its own: merged with an adapter that changes nothing.
    model, adapter = save_adapter(chat_model, tmp_path / "nothing")
    zeros = Adapter({name: np.zeros_like(array) for name, array in adapter.arrays.items()})
    record = json.loads((saved_adapter / "fedmedlora.json").read_text())
    write_file(
        tmp_path / "nothing" / "adapter_model.safetensors",
        adapter_files(model, zeros, record)["adapter_model.safetensors"],
    )
    assert command(tmp_path / "nothing", tmp_path / "base", "gguf", chat_model) == 0
    ids = IDS[0].tolist()
    expected = model(IDS[:1]).logits[0, -1].log_softmax(-1)
    found = LlamaCpp(tmp_path / "base" / "model.gguf", out / "adapter.gguf").likely(ids)
    assert max(abs(value - expected[number].item()) for number, value in found.items()) < 1e-3


@pytest.mark.parametrize(
    ("to", "precision", "told"),
    [
        ("merged", "bfloat16", "bfloat16"),
        ("merged", "", "float32"),
        ("gguf", "q8_0", "q8_0"),
        ("gguf", "float16", "float16"),
        ("gguf", "base", "float32"),
    ],
)
def test_the_card_says_what_it_is_and_where_it_comes_from(
    saved_adapter, chat_model, tmp_path, to, precision, told
):
    export(saved_adapter, tmp_path / "out", to=to, precision=precision, model_name=str(chat_model))
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    record = json.loads((saved_adapter / "fedmedlora.json").read_text())
    _, adapter = save_adapter(chat_model, tmp_path / "again")
    assert f"in {told}." in card
    assert record["base_model"]["hash"] in card
    assert adapter.hash() in card
    assert "rank 2, alpha 4.0, trained by fed_medlora" in card
    assert "base_model:" not in card  # a folder's name is no address
    assert len(card.splitlines()) < 15
    for path in (tmp_path / "out").iterdir():  # nor any path of this machine
        assert str(tmp_path).encode() not in path.read_bytes()
        assert str(chat_model.parent).encode() not in path.read_bytes()
    size = (tmp_path / "out" / {"merged": "model.safetensors", "gguf": "model.gguf"}[to]).stat().st_size
    num = sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(chat_model).parameters())
    assert size < num * {"float32": 4, "q8_0": 2}.get(told, 2) + 25_000


def test_the_card_of_a_model_with_an_address(chat_model, tmp_path):
    save_adapter(chat_model, tmp_path / "adapter", is_folder=False, name="org/tiny\nllama")
    export(tmp_path / "adapter", tmp_path / "out", to="peft")
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith(
        '---\nbase_model: "org/tiny\\nllama"\nlibrary_name: peft\n---\n\n# org/tiny llama, fine'
    )


@pytest.mark.demo_model
def test_the_demo_model_in_eight_bits_by_llama_cpp(tmp_path):
    """A real model and its real tokenizer: the same tokens, and nearly the same likeliest words."""
    folder, targets = tmp_path / "adapter", ["q_proj", "v_proj"]
    model, _ = save_adapter("smollm2-135m", folder, names=("ner",), targets=targets, scale=0.01)
    prompt = frame_around(folder, "Pt's BP: 120/80 mmHg;  denies SOB (x3).")
    tokenizer = AutoTokenizer.from_pretrained(demo_model_folder())
    ids = tokenizer(prompt, add_special_tokens=False).input_ids
    expected = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    del model
    export(folder, tmp_path / "out", to="gguf", precision="q8_0")
    assert (tmp_path / "out" / "model.gguf").stat().st_size < 150e6
    llama = LlamaCpp(tmp_path / "out" / "model.gguf")
    assert llama.tokens(prompt, begin=True) == ids
    found = llama.likely(ids)
    top = expected.topk(20).indices.tolist()
    assert max(abs(found[number] - expected[number].item()) for number in top) < 0.5
    assert max(found, key=found.get) == top[0]

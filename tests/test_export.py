"""What an adapter becomes for other programs: each is loaded again by those programs' own loaders."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from llama_cpp import LlamaCpp
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from fedmedlora import cli_export
from fedmedlora import export as export_module
from fedmedlora.cli import main
from fedmedlora.corpora.note import Annotates, Note
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.export import TARGETS, export
from fedmedlora.extract import extract
from fedmedlora.manifest import manifest
from fedmedlora.measure import Form, predict
from fedmedlora.model.load import load_base_model
from fedmedlora.model.lora import attach_lora, read_adapter, write_adapter
from fedmedlora.model.saved import adapter_files
from fedmedlora.progress import Silent
from fedmedlora.run_folder import write_file

ASKED = Annotates(frozenset({"problem", "drug"}), frozenset({"problem.negation", "drug.dosage"}))
NOBODY = Annotates(frozenset(), frozenset())
NOTES = tuple(
    Note(str(number), text, (), (), (), NOBODY)
    for number, text in enumerate(
        ["Pt denies chest pain.", "", "He was started on aspirin 81 mg daily. No fever."], start=1
    )
)
FORM = Form(CLINICAL, prompt_set="short")
CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
IDS = torch.arange(24).reshape(2, 12)


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory, encoder, save_model):
    """A tiny llama whose tokenizer has a chat template."""
    tokenizer = copy.deepcopy(encoder.tokenizer)
    tokenizer.chat_template = CHAT
    return save_model(tmp_path_factory.mktemp("base") / "tiny-llama", tokenizer=tokenizer)


def save(base_folder, folder, *, names=("ner", "modifiers"), form="markup", loss="lm+decision", **more):
    """An adapter in ``folder``, as ``run`` saves it, and base and adapter in one model."""
    base = load_base_model(str(base_folder), precision="float32")
    model = attach_lora(base.model, rank=2, alpha=4.0)
    rng = np.random.default_rng(2)
    start = read_adapter(model).arrays
    adapter = Adapter({n: rng.normal(scale=0.3, size=a.shape).astype(np.float32) for n, a in start.items()})
    write_adapter(model, adapter)
    record = manifest(
        base,
        CLINICAL,
        [ASKED],
        tasks={"names": list(names), "modifier_scope": "entity", "prompt_set": "short"},
        adapter={"rank": 2, "alpha": 4.0, "targets": "all-linear", "method": "fed_medlora", "num_rounds": 3},
        loss=loss,
        form=form,
    )
    record["base_model"] |= more
    for name, content in adapter_files(model, adapter, record).items():
        write_file(folder / name, content)
    return model, adapter


@pytest.fixture
def saved(base_folder, tmp_path):
    """The folder of an adapter."""
    save(base_folder, tmp_path / "fed_medlora")
    return tmp_path / "fed_medlora"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def command(folder, out, to, base_folder=None, *more):
    model = [] if base_folder is None else ["--model", str(base_folder)]
    return main(["export", str(folder), "--to", to, "--out", str(out), *model, *more])


# --- each target, by the command --------------------------------------------------------------------------


def test_peft_loads_it_and_so_do_we(saved, base_folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert command(saved, out, "peft") == 0  # no base model is needed
    told = capsys.readouterr()
    assert told.out.splitlines()[0].startswith(f"{out / 'README.md'}: ")
    assert names(out) == ["README.md", "adapter_config.json", "adapter_model.safetensors", "fedmedlora.json"]
    for name in ("adapter_model.safetensors", "fedmedlora.json"):
        assert (out / name).read_bytes() == (saved / name).read_bytes()
    assert len(json.loads((out / "adapter_config.json").read_text())) == 10
    expected, _ = save(base_folder, tmp_path / "again")
    base = AutoModelForCausalLM.from_pretrained(base_folder)
    found = PeftModel.from_pretrained(base, str(out)).eval()
    assert torch.equal(found(IDS).logits, expected(IDS).logits)
    settings = {"model_name": str(base_folder), "progress": Silent()}
    assert extract(out, NOTES, **settings) == extract(saved, NOTES, **settings)


def test_peft_over_a_model_with_an_address(saved, base_folder, tmp_path, monkeypatch):
    from fedmedlora.extract import find_files

    assert command(saved, tmp_path / "folder", "peft", base_folder) == 0
    config = json.loads((tmp_path / "folder" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny-llama"  # no path of this machine
    # As a hub's name: what lies there is the same model.
    here = find_files(str(base_folder), {}, saved)
    monkeypatch.setattr(export_module, "find_files", lambda *asked: replace(here, name="org/tiny"))
    export(saved, tmp_path / "out", to="peft", model_name="org/tiny")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/tiny"
    config["base_model_name_or_path"] = str(base_folder)  # the hub is not here
    (tmp_path / "out" / "adapter_config.json").write_text(json.dumps(config))
    AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out")


def test_transformers_loads_the_merged_model_and_it_finds_the_same(saved, base_folder, tmp_path, capsys):
    out = tmp_path / "out"
    assert command(saved, out, "merged", base_folder) == 0
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
    expected, _ = save(base_folder, tmp_path / "again")
    found = AutoModelForCausalLM.from_pretrained(out)
    torch.testing.assert_close(found(IDS).logits, expected(IDS).logits, rtol=1e-4, atol=1e-4)
    text = "Pt denies chest pain"
    assert (
        AutoTokenizer.from_pretrained(out)(text).input_ids
        == AutoTokenizer.from_pretrained(base_folder)(text).input_ids
    )
    # Read by our own decoder, with nothing on it, it finds what base and adapter find.
    merged = load_base_model(str(out), precision="float32")
    asked = [replace(note, annotates=ASKED) for note in NOTES]
    ours = predict(merged, merged.model, asked, FORM, lambda done, total: None).end_to_end
    theirs = extract(saved, NOTES, model_name=str(base_folder), progress=Silent())
    assert [ours[n.id].entities for n in NOTES] == [n.entities for n in theirs]
    assert [ours[n.id].links for n in NOTES] == [n.links for n in theirs]
    assert any(n.entities for n in theirs), "an adapter that finds nothing would prove nothing"


def frame_around(folder, text, task="ner"):
    """A prompt as the adapter's manifest says."""
    record = json.loads((folder / "fedmedlora.json").read_text())
    before, after = record["frame"]["before"], record["frame"]["after"]
    return before.replace("{instruction}", record["prompts"][task]) + text + after


def test_llama_cpp_writes_what_the_merged_model_writes(saved, base_folder, tmp_path):
    out = tmp_path / "out"
    assert command(saved, out, "gguf", base_folder) == 0
    assert names(out) == ["Modelfile", "README.md", "fedmedlora.json", "model.gguf"]
    model, _ = save(base_folder, tmp_path / "again")
    tokenizer = AutoTokenizer.from_pretrained(base_folder)
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


def test_the_modelfile_asks_as_the_adapter_was_trained(saved, base_folder, tmp_path):
    assert command(saved, tmp_path / "out", "gguf", base_folder) == 0
    file = (tmp_path / "out" / "Modelfile").read_text(encoding="utf-8")
    prompts = json.loads((saved / "fedmedlora.json").read_text())["prompts"]
    assert file == (
        'FROM ./model.gguf\nTEMPLATE """<|user|>{{ if .System }}{{ .System }}\n{{ end }}{{ .Prompt }}'
        f'<|end|>\n<|assistant|>"""\nSYSTEM """{prompts["ner"]}"""\nPARAMETER temperature 0\n'
        "PARAMETER repeat_penalty 1\n"
    )


def test_an_adapter_for_llama_cpp(saved, base_folder, tmp_path):
    out = tmp_path / "out"
    assert command(saved, out, "gguf-adapter", base_folder) == 0
    assert names(out) == ["Modelfile", "README.md", "adapter.gguf", "fedmedlora.json"]
    assert "FROM ./base.gguf\nADAPTER ./adapter.gguf\n" in (out / "Modelfile").read_text()
    # Its base model as a file of its own: merged with an adapter that changes nothing.
    model, adapter = save(base_folder, tmp_path / "nothing")
    zeros = Adapter({name: np.zeros_like(array) for name, array in adapter.arrays.items()})
    record = json.loads((saved / "fedmedlora.json").read_text())
    write_file(
        tmp_path / "nothing" / "adapter_model.safetensors",
        adapter_files(model, zeros, record)["adapter_model.safetensors"],
    )
    assert command(tmp_path / "nothing", tmp_path / "base", "gguf", base_folder) == 0
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
def test_the_card_says_what_it_is_and_where_it_comes_from(saved, base_folder, tmp_path, to, precision, told):
    export(saved, tmp_path / "out", to=to, precision=precision, model_name=str(base_folder))
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    record = json.loads((saved / "fedmedlora.json").read_text())
    _, adapter = save(base_folder, tmp_path / "again")
    assert f"in {told}." in card
    assert record["base_model"]["hash"] in card
    assert adapter.hash() in card
    assert "rank 2, alpha 4.0, trained by fed_medlora" in card
    assert "base_model:" not in card  # a folder's name is no address
    assert len(card.splitlines()) < 15
    for path in (tmp_path / "out").iterdir():  # nor any path of this machine
        assert str(tmp_path).encode() not in path.read_bytes()
        assert str(base_folder.parent).encode() not in path.read_bytes()
    size = (tmp_path / "out" / {"merged": "model.safetensors", "gguf": "model.gguf"}[to]).stat().st_size
    num = sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(base_folder).parameters())
    assert size < num * {"float32": 4, "q8_0": 2}.get(told, 2) + 25_000


def test_the_card_of_a_model_with_an_address(base_folder, tmp_path):
    save(base_folder, tmp_path / "adapter", is_folder=False, name="org/tiny\nllama")
    export(tmp_path / "adapter", tmp_path / "out", to="peft")
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith(
        '---\nbase_model: "org/tiny\\nllama"\nlibrary_name: peft\n---\n\n# org/tiny llama, fine'
    )


# --- what is refused --------------------------------------------------------------------------------------


def refused(saved, tmp_path, message, *, to, **asked):
    before = names(tmp_path)
    with pytest.raises(ValueError, match=message):
        export(saved, tmp_path / "out", to=to, **asked)
    assert names(tmp_path) == before


def change(folder, part, **values):
    path = folder / "fedmedlora.json"
    record = json.loads(path.read_text())
    if part:
        record[part] |= values
    else:
        record |= values
    path.write_text(json.dumps(record))


def test_what_is_there_stays(saved, base_folder, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    for to in TARGETS:
        assert command(saved, tmp_path / "out", to, base_folder) == 2
        assert "is there and not empty" in capsys.readouterr().err
    assert names(tmp_path / "out") == ["mine"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"to": "onnx"}, "--to onnx: allowed are peft, merged, gguf, gguf-adapter"),
        ({"to": "peft", "precision": "bfloat16"}, "--precision bfloat16: with --to peft allowed are float32"),
        ({"to": "merged", "precision": "q8_0"}, "allowed are base, float32, bfloat16, float16$"),
    ],
)
def test_settings_that_do_not_go_together(saved, tmp_path, asked, message):
    refused(saved, tmp_path, message, **asked)


@pytest.mark.parametrize("to", TARGETS)
def test_another_base_model_is_refused(saved, model_folders, tmp_path, to):
    message = "trained over base model 'tiny-llama'.*give the same base model"
    refused(saved, tmp_path, message, to=to, model_name=str(model_folders["qwen2"]))


@pytest.mark.parametrize("to", ["merged", "gguf", "gguf-adapter"])
def test_a_base_model_out_of_a_folder_is_asked_for(saved, tmp_path, to):
    refused(saved, tmp_path, "a folder called 'tiny-llama'; name that folder with --model", to=to)


@pytest.mark.parametrize("to", ["merged", "gguf", "gguf-adapter"])
def test_another_tokenizer_or_frame_is_refused(saved, base_folder, tmp_path, to):
    change(saved, "", tokenizer_hash="0" * 64)
    refused(saved, tmp_path, "another tokenizer hash", to=to, model_name=str(base_folder))
    save(base_folder, saved)
    change(saved, "frame", after="!")
    refused(saved, tmp_path, "another frame", to=to, model_name=str(base_folder))


def test_what_the_adapters_own_words_are_does_not_matter(saved, base_folder, tmp_path):
    change(saved, "prompts", ner="Words of another version.")
    export(saved, tmp_path / "out", to="gguf", model_name=str(base_folder))
    assert 'SYSTEM """Words of another version."""' in (tmp_path / "out" / "Modelfile").read_text()


def test_what_is_no_saved_adapter_is_refused(saved, base_folder, tmp_path):
    for to in TARGETS:
        refused(tmp_path, tmp_path, "give the folder that `run` wrote", to=to, model_name=str(base_folder))
    path = saved / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"use_rslora": True}))
    for to in TARGETS:
        refused(saved, tmp_path, "use_rslora: an adapter", to=to, model_name=str(base_folder))
    path.write_text(json.dumps(config | {"r": 3}))
    refused(saved, tmp_path, "another rank", to="merged", model_name=str(base_folder))
    (saved / "adapter_model.safetensors").write_bytes(b"")
    refused(saved, tmp_path, "cannot be read as an adapter", to="peft")


def test_a_disk_without_room_is_said_before_the_model_is_loaded(saved, base_folder, tmp_path, monkeypatch):
    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    monkeypatch.setattr("fedmedlora.model.merge.load_both", None)
    for to in ("merged", "gguf"):
        refused(
            saved,
            tmp_path,
            r"takes 50\.\d MB, and its disk has 0\.0 MB left",
            to=to,
            model_name=str(base_folder),
        )


def test_a_disk_that_is_full_leaves_nothing(saved, base_folder, tmp_path, monkeypatch):
    def full(*asked, **more):
        raise OSError(28, "No space left on device")

    before = names(tmp_path)
    monkeypatch.setattr("fedmedlora.model.gguf_file.write_model", full)
    assert command(saved, tmp_path / "out", "gguf", base_folder) == 2
    assert names(tmp_path) == before


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox"])
def test_an_architecture_that_gguf_is_not_written_for(model_folders, tmp_path, monkeypatch, kind):
    save(model_folders[kind], tmp_path / "adapter")
    monkeypatch.setattr("fedmedlora.model.merge.load_both", None)  # said before
    for to in ("gguf", "gguf-adapter"):
        message = f"architecture '{kind}'.*export --to merged"
        refused(tmp_path / "adapter", tmp_path, message, to=to, model_name=str(model_folders[kind]))


def test_weights_of_few_bits(base_folder, tmp_path, saved, monkeypatch):
    import shutil

    shutil.copytree(base_folder, tmp_path / "tiny-llama")
    path = tmp_path / "tiny-llama" / "config.json"
    config = json.loads(path.read_text()) | {"quantization_config": {"quant_method": "awq", "bits": 4}}
    path.write_text(json.dumps(config))
    model = str(tmp_path / "tiny-llama")
    for to in ("merged", "gguf"):
        refused(saved, tmp_path, r"quantized already \(awq\)", to=to, model_name=model)
    export(saved, tmp_path / "out", to="peft", model_name=model)


def test_what_was_trained_over_four_bits_is_merged_into_all_of_them(base_folder, tmp_path):
    save(base_folder, tmp_path / "adapter", quantization="nf4")
    with pytest.warns(UserWarning, match="merged into the full ones that they were made of"):
        export(tmp_path / "adapter", tmp_path / "out", to="merged", model_name=str(base_folder))
    export(tmp_path / "adapter", tmp_path / "peft", to="peft")  # there it is the loader's to say


@pytest.mark.parametrize(("form", "loss"), [("markup", "decision"), ("tags", "decision")])
def test_what_only_our_decoder_reads(base_folder, tmp_path, form, loss):
    folder = tmp_path / "adapter"
    save(base_folder, folder, names=("ner",), form=form, loss=loss)
    for to in ("gguf", "gguf-adapter"):
        message = 'loss = "decision" alone.*llama.cpp and Ollama only write'
        refused(folder, tmp_path, message, to=to, model_name=str(base_folder))
    for to in ("peft", "merged"):
        with pytest.warns(UserWarning, match="only fedmedlora's decoder reads it"):
            export(folder, tmp_path / to, to=to, model_name=str(base_folder))


def test_a_prompt_that_no_modelfile_holds(saved, base_folder, tmp_path):
    change(saved, "prompts", ner='Say """this"""')
    with pytest.warns(UserWarning, match="no Modelfile for Ollama: a Modelfile cannot hold three quotation"):
        export(saved, tmp_path / "out", to="gguf", model_name=str(base_folder))
    assert names(tmp_path / "out") == ["README.md", "fedmedlora.json", "model.gguf"]


def test_instruction_data_brings_its_own_instructions(base_folder, tmp_path):
    save(base_folder, tmp_path / "adapter", names=("instruction",), loss="lm")
    export(tmp_path / "adapter", tmp_path / "out", to="gguf", model_name=str(base_folder))
    file = (tmp_path / "out" / "Modelfile").read_text()
    assert not re.search("^SYSTEM", file, re.MULTILINE)
    assert "{{ .Prompt }}" in file


# --- the command ------------------------------------------------------------------------------------------


def test_the_command_offers_what_there_is():
    assert tuple(TARGETS) == cli_export.TARGETS
    every = dict.fromkeys(precision for allowed in TARGETS.values() for precision in allowed)
    assert set(cli_export.PRECISIONS) == set(every)


def test_what_argparse_refuses(saved, tmp_path, capsys):
    for wrong in (["--to", "onnx"], ["--to", "gguf", "--precision", "q4"], []):
        with pytest.raises(SystemExit) as end:
            main(["export", str(saved), "--out", str(tmp_path / "out"), *wrong])
        assert end.value.code == 2
    assert "--to" in capsys.readouterr().err


@pytest.mark.demo_model
def test_the_demo_model_in_eight_bits_by_llama_cpp(tmp_path):
    """A real model and its real tokenizer: the same tokens, and nearly the same likeliest words."""
    base = load_base_model("smollm2-135m", precision="float32")
    model = attach_lora(base.model, rank=4, alpha=8.0, targets=["q_proj", "v_proj"])
    rng = np.random.default_rng(0)
    start = read_adapter(model).arrays
    adapter = Adapter({n: rng.normal(scale=0.01, size=a.shape).astype(np.float32) for n, a in start.items()})
    write_adapter(model, adapter)
    record = manifest(
        base,
        CLINICAL,
        [ASKED],
        tasks={"names": ["ner"], "modifier_scope": "entity", "prompt_set": "short"},
        adapter={"rank": 4, "alpha": 8.0, "targets": ["q_proj", "v_proj"], "method": "fed_medlora"},
        loss="lm",
    )
    for name, content in adapter_files(model, adapter, record).items():
        write_file(tmp_path / "adapter" / name, content)
    prompt = (
        "".join(base.encoder.frame).replace("{instruction}", "Say it.") + "Pt's BP: 120/80 mmHg;  denies SOB."
    )
    ids = base.encoder.tokenizer(prompt, add_special_tokens=False).input_ids
    expected = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    del base, model
    export(tmp_path / "adapter", tmp_path / "out", to="gguf", precision="q8_0")
    assert (tmp_path / "out" / "model.gguf").stat().st_size < 150e6
    llama = LlamaCpp(tmp_path / "out" / "model.gguf")
    assert llama.tokens(prompt, begin=True) == ids
    found = llama.likely(ids)
    top = expected.topk(20).indices.tolist()
    assert max(abs(found[number] - expected[number].item()) for number in top) < 0.5
    assert max(found, key=found.get) == top[0]

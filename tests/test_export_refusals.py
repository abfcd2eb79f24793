"""What ``export`` refuses, what it warns of, and that neither leaves anything behind."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from saved_adapter import save_adapter

from fedmedlora import cli_export
from fedmedlora.cli import main
from fedmedlora.export import TARGETS, export
from fedmedlora.model.gguf_layout import ARCHITECTURES


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def command(folder, out, to, model=None, *more):
    name = [] if model is None else ["--model", str(model)]
    return main(["export", str(folder), "--to", to, "--out", str(out), *name, *more])


def refused(saved_adapter, tmp_path, message, *, to, **asked):
    before = names(tmp_path)
    with pytest.raises(ValueError, match=message):
        export(saved_adapter, tmp_path / "out", to=to, **asked)
    assert names(tmp_path) == before


def change(folder, part, **values):
    path = folder / "fedmedlora.json"
    record = json.loads(path.read_text())
    if part:
        record[part] |= values
    else:
        record |= values
    path.write_text(json.dumps(record))


def test_what_is_there_stays(saved_adapter, chat_model, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    for to in TARGETS:
        assert command(saved_adapter, tmp_path / "out", to, chat_model) == 2
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
def test_settings_that_do_not_go_together(saved_adapter, tmp_path, asked, message):
    refused(saved_adapter, tmp_path, message, **asked)


@pytest.mark.parametrize("to", TARGETS)
def test_another_base_model_is_refused(saved_adapter, model_folders, tmp_path, to):
    message = "trained over base model 'tiny-llama'.*give the same base model"
    refused(saved_adapter, tmp_path, message, to=to, model_name=str(model_folders["qwen2"]))


@pytest.mark.parametrize("to", ["merged", "gguf", "gguf-adapter"])
def test_a_base_model_out_of_a_folder_is_asked_for(saved_adapter, tmp_path, to):
    refused(saved_adapter, tmp_path, "a folder called 'tiny-llama'; name that folder with --model", to=to)


@pytest.mark.parametrize("to", ["merged", "gguf", "gguf-adapter"])
def test_another_tokenizer_or_frame_is_refused(saved_adapter, chat_model, tmp_path, to):
    change(saved_adapter, "", tokenizer_hash="0" * 64)
    refused(saved_adapter, tmp_path, "another tokenizer hash", to=to, model_name=str(chat_model))
    save_adapter(chat_model, saved_adapter)
    change(saved_adapter, "frame", after="!")
    refused(saved_adapter, tmp_path, "another frame", to=to, model_name=str(chat_model))


def test_what_the_adapters_own_words_are_does_not_matter(saved_adapter, chat_model, tmp_path):
    change(saved_adapter, "prompts", ner="Words of another version.")
    export(saved_adapter, tmp_path / "out", to="gguf", model_name=str(chat_model))
    assert 'SYSTEM """Words of another version."""' in (tmp_path / "out" / "Modelfile").read_text()


def test_a_message_names_what_it_is_about_once(saved_adapter, chat_model, model_folders, tmp_path, capsys):
    for model in (None, model_folders["qwen2"]):
        assert command(saved_adapter, tmp_path / "out", "merged", model) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"fedmedlora: {saved_adapter}: ")
        assert line.count(f"{saved_adapter}: ") == 1


def test_what_is_no_saved_adapter_is_refused(saved_adapter, chat_model, tmp_path):
    for to in TARGETS:
        refused(tmp_path, tmp_path, "give the folder that `run` wrote", to=to, model_name=str(chat_model))
    path = saved_adapter / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"use_rslora": True}))
    for to in TARGETS:
        refused(saved_adapter, tmp_path, "use_rslora: an adapter", to=to, model_name=str(chat_model))
    path.write_text(json.dumps(config | {"r": 3}))
    refused(saved_adapter, tmp_path, "another rank", to="merged", model_name=str(chat_model))
    (saved_adapter / "adapter_model.safetensors").write_bytes(b"")
    refused(saved_adapter, tmp_path, "cannot be read as an adapter", to="peft")


def test_a_disk_without_room_is_said_before_the_model_is_loaded(
    saved_adapter, chat_model, tmp_path, monkeypatch
):
    class Usage:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda path: Usage)
    monkeypatch.setattr("fedmedlora.model.merge.load_both", None)
    for to in ("merged", "gguf"):
        refused(
            saved_adapter,
            tmp_path,
            r"takes 50\.\d MB, and its disk has 0\.0 MB left",
            to=to,
            model_name=str(chat_model),
        )


def test_a_disk_that_is_full_leaves_nothing(saved_adapter, chat_model, tmp_path, monkeypatch):
    def full(*asked, **more):
        raise OSError(28, "No space left on device")

    before = names(tmp_path)
    monkeypatch.setattr("fedmedlora.model.gguf_file.write_model", full)
    assert command(saved_adapter, tmp_path / "out", "gguf", chat_model) == 2
    assert names(tmp_path) == before


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox"])
def test_an_architecture_that_gguf_is_not_written_for(model_folders, tmp_path, monkeypatch, kind):
    save_adapter(model_folders[kind], tmp_path / "adapter")
    monkeypatch.setattr("fedmedlora.model.merge.load_both", None)  # said before
    for to in ("gguf", "gguf-adapter"):
        message = f"architecture '{kind}'.*export --to merged"
        refused(tmp_path / "adapter", tmp_path, message, to=to, model_name=str(model_folders[kind]))


def test_weights_of_few_bits(chat_model, tmp_path, saved_adapter, monkeypatch):
    shutil.copytree(chat_model, tmp_path / "tiny-llama")
    path = tmp_path / "tiny-llama" / "config.json"
    config = json.loads(path.read_text()) | {"quantization_config": {"quant_method": "awq", "bits": 4}}
    path.write_text(json.dumps(config))
    model = str(tmp_path / "tiny-llama")
    for to in ("merged", "gguf"):
        refused(saved_adapter, tmp_path, r"quantized already \(awq\)", to=to, model_name=model)
    export(saved_adapter, tmp_path / "out", to="peft", model_name=model)


def test_what_was_trained_over_four_bits_is_merged_into_all_of_them(chat_model, tmp_path):
    save_adapter(chat_model, tmp_path / "adapter", quantization="nf4")
    with pytest.warns(UserWarning, match="merged into the full ones that they were made of"):
        export(tmp_path / "adapter", tmp_path / "out", to="merged", model_name=str(chat_model))
    export(tmp_path / "adapter", tmp_path / "peft", to="peft")  # there it is the loader's to say


@pytest.mark.parametrize(("form", "loss"), [("markup", "decision"), ("tags", "decision")])
def test_what_only_our_decoder_reads(chat_model, tmp_path, form, loss):
    folder = tmp_path / "adapter"
    save_adapter(chat_model, folder, names=("ner",), form=form, loss=loss)
    for to in ("gguf", "gguf-adapter"):
        why = "form tags, in one pass" if form == "tags" else 'loss = "decision" alone'
        message = f"{why}.*llama.cpp and Ollama only write"
        refused(folder, tmp_path, message, to=to, model_name=str(chat_model))
    for to in ("peft", "merged"):
        with pytest.warns(UserWarning, match="only fedmedlora's decoder reads it"):
            export(folder, tmp_path / to, to=to, model_name=str(chat_model))


def test_a_prompt_that_no_modelfile_holds(saved_adapter, chat_model, tmp_path):
    change(saved_adapter, "prompts", ner='Say """this"""')
    with pytest.warns(UserWarning, match="no Modelfile for Ollama: a Modelfile cannot hold three quotation"):
        export(saved_adapter, tmp_path / "out", to="gguf", model_name=str(chat_model))
    assert names(tmp_path / "out") == ["README.md", "fedmedlora.json", "model.gguf"]


def test_instruction_data_brings_its_own_instructions(chat_model, tmp_path):
    save_adapter(chat_model, tmp_path / "adapter", names=("instruction",), loss="lm")
    export(tmp_path / "adapter", tmp_path / "out", to="gguf", model_name=str(chat_model))
    file = (tmp_path / "out" / "Modelfile").read_text()
    assert not re.search("^SYSTEM", file, re.MULTILINE)
    assert "{{ .Prompt }}" in file


def test_the_command_offers_what_there_is():
    assert tuple(TARGETS) == cli_export.TARGETS
    every = dict.fromkeys(precision for allowed in TARGETS.values() for precision in allowed)
    assert set(cli_export.PRECISIONS) == set(every)


def test_the_page_names_what_there_is():
    page = (Path(__file__).parents[1] / "docs" / "export.md").read_text(encoding="utf-8")
    asked = {*TARGETS, *cli_export.PRECISIONS, *ARCHITECTURES}
    assert [name for name in sorted(asked) if f"`{name}`" not in page] == []


def test_what_argparse_refuses(saved_adapter, tmp_path, capsys):
    for wrong in (["--to", "onnx"], ["--to", "gguf", "--precision", "q4"], []):
        with pytest.raises(SystemExit) as end:
            main(["export", str(saved_adapter), "--out", str(tmp_path / "out"), *wrong])
        assert end.value.code == 2
    assert "--to" in capsys.readouterr().err

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from fedmedlora.model.load import load_base_model, load_encoder, weights_hash


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt_neox"])
def test_a_folder_that_transformers_saved(model_folders, kind):
    base = load_base_model(str(model_folders[kind]), precision="float32")
    assert base.num_parameters == sum(p.numel() for p in base.model.parameters())
    assert not any(p.requires_grad for p in base.model.parameters())
    assert not base.model.training
    assert {p.dtype for p in base.model.parameters()} == {torch.float32}
    assert base.encoder.decode(base.encoder.piece(" nausea")) == " nausea"
    assert load_encoder(str(model_folders[kind])).piece(" nausea") == base.encoder.piece(" nausea")


def test_bfloat16(model_folders):
    base = load_base_model(str(model_folders["llama"]), precision="bfloat16")
    assert {p.dtype for p in base.model.parameters()} == {torch.bfloat16}


def test_hash_is_of_the_weights_not_of_the_place(model_folders, tmp_path, save_model):
    here = load_base_model(str(model_folders["llama"])).hash
    shutil.copytree(model_folders["llama"], tmp_path / "elsewhere")
    assert load_base_model(str(tmp_path / "elsewhere")).hash == here
    assert load_base_model(str(model_folders["qwen2"])).hash != here
    assert load_base_model(str(save_model(tmp_path / "other-seed", "llama", 1))).hash != here


def test_hash_sees_one_changed_number(model_folders, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(model_folders["llama"], folder)
    before = load_base_model(str(folder)).hash
    tensors = load_file(folder / "model.safetensors")
    name = sorted(tensors)[0]
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[0] += 1e-3
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert load_base_model(str(folder)).hash != before


def test_hash_of_a_model_without_files_is_of_its_tensors(build, monkeypatch):
    one, same, other = (weights_hash(build("llama", seed)) for seed in (0, 0, 1))
    assert one == same
    assert one != other
    # The tensors' element type is part of it.
    assert weights_hash(build("llama", 0).to(torch.bfloat16)) != one


def test_nf4_without_a_gpu_is_refused(model_folders, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"'nf4' needs an NVIDIA GPU.*set quantization = 'none'"):
        load_base_model(str(model_folders["llama"]), quantization="nf4")


def test_unknown_settings_list_the_known_ones(model_folders):
    with pytest.raises(ValueError, match="quantization 'int8': allowed are none, nf4"):
        load_base_model(str(model_folders["llama"]), quantization="int8")
    with pytest.raises(ValueError, match="precision 'float16': allowed are auto, float32, bfloat16"):
        load_base_model(str(model_folders["llama"]), precision="float16")


def test_a_folder_that_is_not_there_or_holds_no_model(tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ValueError, match=r"cannot be loaded.*smollm2-135m") as caught:
            load_base_model(str(folder))
        assert "\n" not in str(caught.value)
        assert ("there is no such folder" in str(caught.value)) is (folder != tmp_path)
        with pytest.raises(ValueError, match=r"tokenizer of .* cannot be loaded"):
            load_encoder(str(folder))


@pytest.mark.parametrize("name", ["smollm2", "SmolLM2-135M", "smollm-135m"])
def test_the_demo_models_name_misspelt_is_told_before_the_hub_is_asked(name, monkeypatch):
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(ValueError, match=r"base model .*; did you mean 'smollm2-135m'\?"):
        load_base_model(name)
    for other in (f"HuggingFaceTB/{name}", "smollm2-360m", "SmolLM2-1.7B", "model-135m", "gpt2"):
        with pytest.raises(pytest.fail.Exception, match="asked"):
            load_base_model(other)


def test_a_folder_with_weights_and_no_tokenizer(model_folders, tmp_path):
    for file in ("config.json", "model.safetensors"):
        shutil.copy(model_folders["llama"] / file, tmp_path)
    with pytest.raises(ValueError, match=r"cannot be loaded|end-of-text"):
        load_base_model(str(tmp_path))


def test_a_truncated_weight_file(model_folders, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(model_folders["llama"], folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_base_model(str(folder))


def test_the_revision_reaches_the_hub(monkeypatch, model_folders):
    import transformers

    asked = []

    def refuse(source, revision="main", **kwargs):
        asked.append((source, revision))
        raise OSError("not here")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refuse)
    for revision in ("", "v2"):
        with pytest.raises(ValueError, match="not here"):
            load_base_model("some/model", revision=revision)
    assert asked == [("some/model", "main"), ("some/model", "v2")]

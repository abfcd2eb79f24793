"""A model as files: known by the same hash as when it is loaded."""

from __future__ import annotations

import pytest

from fedmedlora.model.files import model_files


def test_the_same_model_as_when_it_is_loaded(load, model_folders):
    base, files = load("llama"), model_files(str(model_folders["llama"]))
    assert (files.hash, files.name) == (base.hash, base.name)
    assert files.encoder.tokenizer_hash() == base.encoder.tokenizer_hash()
    assert files.folder == model_folders["llama"]
    assert files.num_positions == 4096


def test_what_is_no_model(tmp_path, model_folders):
    with pytest.raises(ValueError, match="cannot be found"):
        model_files(str(tmp_path))
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((model_folders["llama"] / name).read_bytes())
    with pytest.raises(ValueError, match=r"holds no \*\.safetensors"):
        model_files(str(tmp_path))

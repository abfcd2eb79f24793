"""``adapter_config.json`` with what says something alone."""

from __future__ import annotations

import json

import pytest
from peft import LoraConfig

from fedmedlora.model.plain_peft import plain_config

MANIFEST = {"adapter": {"rank": 3, "alpha": 6.0}}


@pytest.fixture
def folder(tmp_path):
    """A folder with the configuration as ``run`` writes it: everything that is not None."""
    config = LoraConfig(
        r=3,
        lora_alpha=6.0,
        lora_dropout=0.1,
        target_modules=["q_proj", "v_proj"],
        task_type="CAUSAL_LM",
        inference_mode=True,
        base_model_name_or_path="x",
    ).to_dict()
    config["target_modules"] = sorted(config["target_modules"])
    record = {key: value for key, value in config.items() if value is not None}
    (tmp_path / "adapter_config.json").write_text(json.dumps(record))
    return tmp_path


def change(folder, **more):
    path = folder / "adapter_config.json"
    record = json.loads(path.read_text()) | more
    path.write_text(json.dumps({key: value for key, value in record.items() if value != "gone"}))


def test_ten_keys_are_left_and_make_the_same_configuration(folder):
    assert len(json.loads((folder / "adapter_config.json").read_text())) > 20
    found = plain_config(folder, MANIFEST, "org/model")
    assert found == {
        "base_model_name_or_path": "org/model",
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_alpha": 6.0,
        "lora_dropout": 0.1,
        "peft_type": "LORA",
        "r": 3,
        "target_modules": ["q_proj", "v_proj"],
        "task_type": "CAUSAL_LM",
    }
    again = LoraConfig.from_peft_type(**found).to_dict()
    before = LoraConfig.from_peft_type(**json.loads((folder / "adapter_config.json").read_text())).to_dict()
    differing = {key for key in before if before[key] != again[key]}
    assert differing <= {"base_model_name_or_path", "peft_version"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"r": 4}, "another rank"),
        ({"use_dora": True}, "use_dora: an adapter that `run` wrote is plain LoRA"),
        ({"layers_to_transform": [1]}, "layers_to_transform: an adapter"),
        ({"exclude_modules": "v_proj"}, "exclude_modules: an adapter"),
        ({"surprise": 0}, "surprise: an adapter"),
        ({"bias": "gone"}, "bias missing; give a folder that `run` wrote"),
    ],
)
def test_what_would_be_lost_is_refused(folder, more, message):
    change(folder, **more)
    with pytest.raises(ValueError, match=message):
        plain_config(folder, MANIFEST, "x")

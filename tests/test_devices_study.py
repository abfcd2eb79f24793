"""A study whose sites train in two processes: the same adapters as in one."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny_study import make_study

from fedmedlora.experiment import run_study
from fedmedlora.model.saved import read_saved_adapter
from fedmedlora.study import parse_study
from fedmedlora.study_tables import Model

ADAPTERS = ("fed_medlora", "centralized")


def small(material, tmp_path, methods=ADAPTERS):
    folder = tmp_path / "study"
    return make_study(material, folder, methods=methods, modifiers=False, every_round=False, evaluate=False)


def test_a_study_on_two_devices(material, tmp_path):
    study = small(material, tmp_path)
    study = replace(study, adapter=replace(study.adapter, dropout=0.0))  # its masks are of a process
    both = replace(study, model=replace(study.model, devices=2))
    folders = [tmp_path / "one", tmp_path / "two"]
    for wanted, folder in zip((study, both), folders, strict=True):
        run_study(wanted, folder)
    for name in ADAPTERS:
        alone, together = (read_saved_adapter(folder / "adapters" / name) for folder in folders)
        assert alone != together, "the order of sums differs, so the second was no copy of the first"
        one, other = (np.concatenate([*map(np.ravel, a.arrays.values())]) for a in (alone, together))
        assert np.linalg.norm(other - one) <= 1e-5 * np.linalg.norm(one)


def test_what_this_machine_has_not_is_refused_first(material, tmp_path):
    study = small(material, tmp_path, ["fed_medlora"])
    for name in ("paged_adamw", "paged_adamw_8bit"):
        wanted = replace(study, model=replace(study.model, optimizer=name))
        with pytest.raises(ValueError, match="needs an NVIDIA GPU"):
            run_study(wanted, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("devices = 0", "at least 1"),
        ('devices = "all"', '"auto" or whole number'),
        ("devices = 1.5", '"auto" or whole number'),
        ('optimizer = "paged"', "did you mean paged_adamw"),
    ],
)
def test_what_a_study_may_not_say(table, message):
    rest = '[[sites]]\nname = "a"\ntrain = "a.jsonl"\n[validation]\nnotes = ["v.jsonl"]\n'
    with pytest.raises(ValueError, match=message):
        parse_study(f'name = "x"\n[model]\n{table}\n{rest}')


@pytest.mark.parametrize(
    ("more", "here", "why"),
    [('methods = ["zero_shot"]', True, "nothing is trained"), ("", False, "say it in their site.toml")],
)
def test_what_has_no_effect_is_said(more, here, why):
    site = '[[sites]]\nname = "a"\n' + ('train = "a.jsonl"\n' if here else "")
    text = f'name = "x"\n{more}\n[model]\ndevices = 2\n{site}[validation]\nnotes = ["v.jsonl"]\n'
    _, notices = parse_study(text, sites_are_here=here)
    assert any(n.startswith("[model] devices: no effect") and why in n for n in notices)


LATECOMER = '[[cohorts]]\nname = "late"\nkind = "new-site"\ntest = "t.jsonl"\ntrain = "l.jsonl"\n'


@pytest.mark.parametrize(
    ("methods", "here", "cohorts", "trains"),  # trains: anything, the model, the model in this process
    [
        (["zero_shot"], True, "", (False, False, False)),
        (["few_shot", "endpoint"], True, "", (False, False, False)),
        (["encoder_fedavg"], True, "", (True, False, False)),
        (["fed_medlora"], True, "", (True, True, True)),
        (["single_site"], False, "", (True, True, False)),
        (["zero_shot"], True, LATECOMER, (True, True, True)),
        (["zero_shot"], True, "[adaptation]\nnum_notes = [0]\n" + LATECOMER, (False, False, False)),
        (["fed_medlora"], False, LATECOMER, (True, True, True)),
    ],
)
def test_what_a_study_trains_and_where(methods, here, cohorts, trains):
    endpoint = '[endpoint]\nurl = "http://localhost:1/v1"\nmodel = "m"\n' if "endpoint" in methods else ""
    site = '[[sites]]\nname = "a"\n' + ('train = "a.jsonl"\n' if here else "")
    text = f'name = "x"\nmethods = {methods}\n[validation]\nnotes = ["v.jsonl"]\n'
    model = '[model]\noptimizer = "paged_adamw"\ndevices = 2\n[adapter]\nrank = 3\n'
    study, notices = parse_study(text + model + endpoint + site + cohorts, sites_are_here=here)
    found = study.trains()
    assert (found.anything, found.model, found.model_here) == trains
    said = " ".join(notice for notice in notices if notice.startswith(("[model]", "[adapter]")))
    assert ("optimizer" in said) == (not found.model_here)
    assert ("devices" in said) == (not (found.model and here))
    assert ("rank" in said) == (not found.model)


def test_what_is_idle_is_no_reason_to_refuse(material, tmp_path):
    """A paged optimizer and two devices, of which a study that trains nothing has neither."""
    study = small(material, tmp_path, ["zero_shot"])
    idle = Model(name=study.model.name, optimizer="paged_adamw", devices=2)
    training = replace(study.training, gradient_checkpointing=True)
    results = run_study(replace(study, model=idle, training=training), tmp_path / "out")
    assert [method["name"] for method in results["methods"]] == ["zero_shot"]


def test_settings_of_the_token_classifier_alone():
    site = '[[sites]]\nname = "a"\ntrain = "a.jsonl"\ntest = "t.jsonl"\n'
    training = "[training]\nrounds = 2\nlearning_rate = 0.1\nweight_decay = 0.1\n"
    _, notices = parse_study(f'name = "x"\nmethods = ["encoder_fedavg"]\n{training}{site}')
    why = "methods train the token classifier alone; see [encoder]"
    assert notices == (f"[training] learning_rate, weight_decay: no effect, {why}",)


def test_padded_tags_are_refused_where_the_model_reads_through_a_window(material, tmp_path):
    study = small(material, tmp_path, ["fed_medlora"])
    path = study.folder / "model" / "config.json"
    config = json.loads(path.read_text())
    assert config["model_type"] == "llama", "whose weights Mistral's are, name by name"
    mistral = {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": 8}
    path.write_text(json.dumps(config | mistral))
    training = replace(study.training, batching="padded")
    tasks = replace(study.tasks, form="tags")
    with pytest.raises(ValueError, match="sliding window"):
        run_study(replace(study, training=training, tasks=tasks), tmp_path / "out")
    assert not (tmp_path / "out").exists()

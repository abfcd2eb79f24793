"""A saved adapter and new notes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedmedlora import extract as extract_module
from fedmedlora.corpora.note import Annotates, Entity, Note
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.extract import extract
from fedmedlora.manifest import manifest
from fedmedlora.measure import Form, predict
from fedmedlora.model.lora import attach_lora, read_adapter, write_adapter
from fedmedlora.model.saved import adapter_files
from fedmedlora.progress import Silent
from fedmedlora.run_folder import write_file

ASKED = Annotates(frozenset({"problem", "drug"}), frozenset({"problem.negation", "drug.dosage"}))
NOBODY = Annotates(frozenset(), frozenset())


def blank(note_id: str, text: str, entities=()) -> Note:
    return Note(note_id, text, entities, (), (), NOBODY, group="patient", meta={"kind": "letter"})


NOTES = (
    blank("a", "Pt denies chest pain.", (Entity("T1", "test", ((0, 2),)),)),
    blank("b", ""),
    blank("c", "He was started on aspirin 81 mg daily. No fever."),
)


@pytest.fixture
def saved(load, tmp_path):
    """A folder with an adapter of two tasks, as ``run`` saves it."""
    return save(load("llama"), tmp_path / "adapter")


def save(base, folder, *, names=("ner", "modifiers"), form="markup", loss="decision"):
    model = attach_lora(base.model, rank=2, alpha=4.0)
    rng = np.random.default_rng(2)
    start = read_adapter(model).arrays
    adapter = Adapter({n: rng.normal(scale=0.3, size=a.shape).astype(np.float32) for n, a in start.items()})
    record = manifest(
        base,
        CLINICAL,
        [ASKED],
        tasks={"names": names, "modifier_scope": "entity", "prompt_set": "short"},
        adapter={"rank": 2, "alpha": 4.0, "targets": "all-linear"},
        loss=loss,
        form=form,
    )
    for name, content in adapter_files(model, adapter, record).items():
        write_file(folder / name, content)
    return folder, adapter


def run(folder, model_folders, notes=NOTES, kind="llama", **more):
    return extract(folder, notes, model_name=str(model_folders[kind]), progress=Silent(), **more)


def test_what_the_adapter_finds_in_place_of_what_was_there(saved, model_folders, load):
    folder, adapter = saved
    found = run(folder, model_folders)
    assert [n.id for n in found] == ["a", "b", "c"]
    assert [(n.text, n.group, n.meta) for n in found] == [(n.text, n.group, n.meta) for n in NOTES]
    assert all(n.annotates == ASKED for n in found)
    assert found[1].entities == ()
    for one in found:
        assert {e.type for e in one.entities} <= ASKED.entities
        assert all(0 <= e.start < e.end <= len(one.text) for e in (*one.entities, *one.modifiers))
    assert any(n.entities for n in found), "an adapter that finds nothing would prove nothing"
    # The same as the adapter gives where it was trained.
    base = load("llama")
    model = attach_lora(base.model, rank=2, alpha=4.0)
    write_adapter(model, adapter)
    from dataclasses import replace

    asked = [replace(n, annotates=ASKED, entities=()) for n in NOTES]
    expected = predict(base, model, asked, Form(CLINICAL, prompt_set="short"), lambda done, total: None)
    assert [n.entities for n in found] == [expected.end_to_end[n.id].entities for n in NOTES]
    assert [n.links for n in found] == [expected.end_to_end[n.id].links for n in NOTES]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_batch_size_does_not_matter(saved, model_folders, batch_size):
    assert run(saved[0], model_folders, batch_size=batch_size) == run(saved[0], model_folders)


def test_no_note(saved, model_folders):
    assert run(saved[0], model_folders, notes=()) == ()


def test_another_base_model_is_refused(saved, model_folders):
    with pytest.raises(ValueError, match="trained over base model 'llama'"):
        run(saved[0], model_folders, kind="qwen2")


@pytest.mark.parametrize(
    ("key", "inner", "value"),
    [
        ("annotates", "entities", []),
        ("prompts", "ner", "another"),
        ("frame", "before", "another"),
        ("output_form", None, "another"),
        ("tokenizer_hash", None, "another"),
        ("segmentation_version", None, 99),
    ],
)
def test_an_adapter_made_under_other_rules_is_refused(saved, model_folders, key, inner, value):
    path = saved[0] / "fedmedlora.json"
    record = json.loads(path.read_text())
    if inner is None:
        record[key] = value
    else:
        record[key][inner] = value
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=f"trained with another {key.replace('_', ' ')}"):
        run(saved[0], model_folders)


def test_another_rank_than_the_manifest_says_is_refused(saved, model_folders):
    path = saved[0] / "fedmedlora.json"
    record = json.loads(path.read_text())
    record["adapter"]["rank"] = 3
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="another rank"):
        run(saved[0], model_folders)


def test_a_folder_without_an_adapter_is_refused_before_a_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(extract_module, "load_base_model", None)
    with pytest.raises(ValueError, match="give the folder that `run` wrote under adapters/"):
        extract(tmp_path, NOTES, progress=Silent())


def test_a_model_out_of_a_folder_is_not_looked_for_elsewhere(saved, monkeypatch):
    monkeypatch.setattr(extract_module, "load_base_model", None)
    with pytest.raises(ValueError, match="a model in a folder called 'llama'; name that folder with --model"):
        extract(saved[0], NOTES, progress=Silent())


@pytest.mark.parametrize("has_gpu", [False, True])
@pytest.mark.parametrize("model_name", [None, "elsewhere"])
def test_the_base_model_is_loaded_as_it_was_trained_over(saved, monkeypatch, has_gpu, model_name):
    path = saved[0] / "fedmedlora.json"
    record = json.loads(path.read_text())
    record["base_model"] |= {"is_folder": False, "name": "org/model", "revision": "v2", "quantization": "nf4"}
    path.write_text(json.dumps(record))
    asked = {}

    def load(name, **settings):
        asked.update(settings, name=name)
        raise ValueError("stop here")

    monkeypatch.setattr(extract_module, "load_base_model", load)
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_gpu)
    with pytest.raises(ValueError, match="stop here"):
        extract(saved[0], NOTES, model_name=model_name, progress=Silent())
    assert asked["quantization"] == ("nf4" if has_gpu else "none")
    assert asked["name"] == (model_name or "org/model")
    assert asked["revision"] == ("" if model_name else "v2")


def test_an_adapter_without_a_task_is_refused(saved, model_folders):
    path = saved[0] / "fedmedlora.json"
    record = json.loads(path.read_text())
    record["tasks"]["names"] = []
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="has no task"):
        run(saved[0], model_folders)


def test_an_adapter_of_modifiers_alone_keeps_the_entities_it_is_given(load, tmp_path, model_folders):
    folder, _ = save(load("llama"), tmp_path / "modifiers", names=("modifiers",))
    given = blank("a", "Pt denies chest pain.", (Entity("T1", "problem", ((10, 20),)),))
    (found,) = run(folder, model_folders, notes=(given,))
    assert found.entities == given.entities
    assert {m.type for m in found.modifiers} <= {"negation"}
    with pytest.raises(ValueError, match="the notes have no entities"):
        run(folder, model_folders, notes=(blank("b", "Pt denies chest pain."),))


def change(folder, **schema):
    """Change the schema in the manifest of ``folder``; None takes a key out."""
    path = folder / "fedmedlora.json"
    record = json.loads(path.read_text())
    record["schema"] |= schema
    record["schema"] = {key: value for key, value in record["schema"].items() if value is not None}
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"entities": ["tumour"]}, "schema 'clinical': pair problem.severity names an unknown type"),
        ({"pairs": []}, "'clinical' is another schema here than in this version of fedmedlora"),
        ({"definitions": {}}, "'clinical' is another schema here than in this version"),
        ({"name": "other", "pairs": ["problem"]}, "'problem' is no pair"),
        ({"name": "other", "pairs": ["problem.negation"]}, "annotates: 'drug.dosage' is not among the pairs"),
        ({"name": "../x"}, "must begin with a letter"),
        ({"name": "other", "entities": ["<script>"]}, "must begin with a letter"),
        ({"name": "other", "definitions": []}, "definitions must map labels"),
        ({"name": "other", "definitions": {"drug": {"long": 3}}}, "definitions must map labels"),
        ({"name": "other", "definitions": {"drug": {"exec": "x"}}}, "definitions must map labels"),
        ({"name": "other", "definitions": {"bird": {"long": "x"}}}, "of another label of the schema"),
        ({"name": "other", "definitions": {"drug": {"long": "a\nb"}}}, "must be one line"),
        ({"name": "other", "definitions": {"drug": {"short": "tree"}}}, "trained with another prompts"),
        ({"entities": ["problem"] * 2}, "named twice"),
    ],
)
def test_a_schema_that_contradicts_itself_or_the_prompts_is_refused(saved, model_folders, changed, message):
    change(saved[0], **changed)
    with pytest.raises(ValueError, match=message):
        run(saved[0], model_folders)


def test_the_schema_is_the_manifests(saved, model_folders):
    before = run(saved[0], model_folders)
    change(saved[0], name="other")  # the same words under another name: nothing that is asked changes
    assert run(saved[0], model_folders) == before
    change(saved[0], name="clinical", definitions=None)  # as the first version wrote it
    assert run(saved[0], model_folders) == before


@pytest.fixture
def as_vllm(load, monkeypatch):
    """vLLM cannot run here: generation by transformers answers its requests."""
    from fedmedlora.extraction.generate import _generate

    started = []

    def start(served):
        started.append(served)
        base = load("llama")
        model = extract_module.load_into(base, extract_module.read_manifest(served.adapter), served.adapter)

        def generate(requests):
            return [
                tuple(_generate(model, base.encoder, r.prompt, None, [()], r.max_tokens, None)[0])
                for r in requests
            ]

        return generate

    monkeypatch.setattr(extract_module, "start", start)
    monkeypatch.setattr(extract_module, "refuse_without_vllm", lambda: None)
    return started


@pytest.fixture
def writes(load, tmp_path):
    """A folder with an adapter that was trained to write by itself."""
    return save(load("llama"), tmp_path / "writes", loss="lm+decision")[0]


@pytest.mark.parametrize("decoding", ["constrained", "free"])
def test_answers_of_another_engine_are_read(load, tmp_path, model_folders, monkeypatch, decoding):
    folder, _ = save(load("llama"), tmp_path / "json", names=("ner",), form="json", loss="lm")
    monkeypatch.setattr(extract_module, "refuse_without_vllm", lambda: None)
    monkeypatch.setattr(extract_module, "load_base_model", None)  # its weights are none of this process
    encoder = load("llama").encoder
    said = encoder.piece('[{"type":"problem","text":"fever"}]')
    asked = []

    def generate(requests):
        asked.extend(requests)
        return [(*said, encoder.end_id)] * len(requests)

    monkeypatch.setattr(extract_module, "start", lambda served: generate)
    found = run(folder, model_folders, decoding=decoding, engine="vllm")
    assert [[(e.type, n.text[e.start : e.end]) for e in n.entities] for n in found] == [
        [],
        [],
        [("problem", "fever")],
    ]
    assert len(asked) == 3  # sentences
    assert {bool(one.schema) for one in asked} == {decoding == "constrained"}


def test_another_engine_finds_the_same(writes, model_folders, as_vllm, monkeypatch):
    here = run(writes, model_folders, decoding="free")
    monkeypatch.setattr(extract_module, "load_base_model", None)  # its weights are none of this process
    there = run(writes, model_folders, decoding="free", engine="vllm", batch_size=3)
    assert there == here
    (served,) = as_vllm
    assert (served.model, served.adapter) == (model_folders["llama"], writes)
    assert (served.rank, served.num_positions, served.batch_size) == (2, 4096, 3)


def test_what_another_engine_cannot_serve_is_refused_at_once(saved, model_folders, as_vllm, monkeypatch):
    ask = {"decoding": "free", "engine": "vllm"}
    with pytest.raises(ValueError, match='trained with loss = "decision" alone'):
        run(saved[0], model_folders, **ask)
    with pytest.raises(ValueError, match="'markup' needs our own decoder"):
        run(saved[0], model_folders, engine="vllm")
    with pytest.raises(ValueError, match="engine 'tgi': allowed are local, vllm"):
        run(saved[0], model_folders, engine="tgi")
    assert as_vllm == []
    monkeypatch.undo()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs the package vllm"):
        run(saved[0], model_folders, **ask)


def change_manifest(folder, part, **values):
    path = folder / "fedmedlora.json"
    record = json.loads(path.read_text())
    record[part] |= values
    path.write_text(json.dumps(record))


def test_a_rank_beyond_the_engine(writes, model_folders, as_vllm):
    change_manifest(writes, "adapter", rank=1000)
    with pytest.raises(ValueError, match="adapter rank 1000: vLLM serves at most 512"):
        run(writes, model_folders, decoding="free", engine="vllm")


def test_four_bits_are_not_passed_on_and_said(writes, model_folders, as_vllm):
    change_manifest(writes, "base_model", quantization="nf4")
    with pytest.warns(UserWarning, match="read over the full ones"):
        run(writes, model_folders, decoding="free", engine="vllm")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"r": 4}, "another rank"),
        ({"lora_alpha": 5}, "another rank"),
        ({"use_rslora": True}, "use_rslora: an adapter that `run` wrote is plain LoRA"),
        (None, "cannot be read"),
    ],
)
def test_a_file_of_pefts_that_says_something_else(writes, model_folders, as_vllm, changed, message):
    path = writes / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text("[" if changed is None else json.dumps(config | changed))
    with pytest.raises(ValueError, match=message):
        run(writes, model_folders, decoding="free", engine="vllm")
    assert as_vllm == []


def test_another_model_for_another_engine(writes, model_folders, as_vllm):
    with pytest.raises(ValueError, match="trained over base model 'llama'"):
        run(writes, model_folders, kind="qwen2", decoding="free", engine="vllm")

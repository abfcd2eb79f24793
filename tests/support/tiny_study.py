"""A whole study that runs in a second: two synthetic sites with a few sentences, and a tiny random model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from fedmedlora.corpora.jsonl import write_notes
from fedmedlora.corpora.synthetic import synthesize
from fedmedlora.study import parse_study

NEW_SITE = """\
[[cohorts]]
name = "latecomer"
kind = "new-site"
test = "stonebridge.test.jsonl"
train = "stonebridge.train.jsonl"
"""
SITES = ("lakeside", "northgate")
METHODS = ["zero_shot", "single_site", "centralized", "fed_medlora", "fed_medlora_plus"]

STUDY = """\
name = "tiny"
seed = 3
methods = {methods}
[model]
name = "{model}"
precision = "float32"
[adapter]
rank = 2
alpha = 4.0
dropout = 0.2
[tasks]
prompts = "short"
max_tokens = 2000
names = {tasks}
[training]
rounds = {rounds}
steps_per_round = 2
examples_per_step = 2
micro_batch = 2
learning_rate = 1e-2
warmup_steps = 1
max_train_examples = 6
{training}[validation]
notes = ["validation.jsonl"]
max_sentences = 3
[evaluation]
bootstrap = 20
zero_shot_free = {free}
every_round = {every_round}
"""


def short_note(name: str, number: int, part: str, num_sentences: int):
    """A synthetic note's first sentences, with what is annotated in them."""
    from fedmedlora.corpora.sentences import sentences

    note = synthesize(name, number + 1, 5, part)[number]
    text = note.text[: sentences(note.text)[num_sentences - 1][1]]
    entities = tuple(e for e in note.entities if e.end <= len(text))
    modifiers = tuple(m for m in note.modifiers if m.end <= len(text))
    kept = {e.id for e in (*entities, *modifiers)}
    links = tuple(k for k in note.links if {k.entity, k.modifier} <= kept)
    return replace(note, text=text, entities=entities, modifiers=modifiers, links=links)


def write(path: Path, notes) -> None:
    write_notes(path, notes, header={"name": path.stem, "schema": "clinical", "synthetic": True})


@pytest.fixture(scope="module")
def material(tmp_path_factory, save_model, tokenizer_of) -> Path:
    """A folder with a model and notes of two sites and an external cohort."""
    from fedmedlora.corpora.schema import CLINICAL
    from fedmedlora.tasks.prompts import instruction

    root = tmp_path_factory.mktemp("material")
    lines = []
    for name in (*SITES, "stonebridge"):
        train = [short_note(name, i, "train", 5) for i in range(2)]
        test = [short_note(name, 0, "test", 3)]
        write(root / f"{name}.train.jsonl", train)
        write(root / f"{name}.test.jsonl", test)
        lines += [n.text for n in train]
        lines.append(instruction("ner", CLINICAL, train[0].annotates, prompt_set="short", scope="entity"))
        lines.append(
            instruction("modifiers", CLINICAL, train[0].annotates, prompt_set="short", scope="entity")
        )
    write(root / "validation.jsonl", [short_note(SITES[0], 0, "validation", 3)])
    save_model(root / "model", tokenizer=tokenizer_of(lines, 1000), std=0.05)
    return root


def make_study(
    material: Path, folder: Path, *, methods=METHODS, sites=SITES, rounds=2, modifiers=True, free=False,
    every_round=True, cohorts=("stonebridge",), evaluate=True,
    training="", more="", after="", head="",
    site_more: Mapping[str, str] | None = None,
):  # fmt: skip
    """The study in ``folder``, over the files in ``material``.

    ``head``: keys before any table. ``training``: more of [training]. ``more``: tables. ``after``: what
    stands at the end. ``site_more``: more keys of a site.
    """
    if folder != material:
        shutil.copytree(material, folder, dirs_exist_ok=True)
    true = {True: "true", False: "false"}
    text = STUDY.format(
        methods=json.dumps(list(methods)),
        model="model",
        tasks=json.dumps(["ner", "modifiers"] if modifiers else ["ner"]),
        rounds=rounds,
        free=true[free],
        every_round=true[every_round],
        training=training,
    )
    text = head + text + more
    for name in sites:
        text += f'[[sites]]\nname = "{name}"\ntrain = "{name}.train.jsonl"\n'
        text += f'test = "{name}.test.jsonl"\n' if evaluate else ""
        text += (site_more or {}).get(name, "")
    for name in cohorts:
        text += f'[[cohorts]]\nname = "{name}"\nkind = "external"\ntest = "{name}.test.jsonl"\n'
    text += after
    (folder / "study.toml").write_text(text, encoding="utf-8")
    return parse_study(text, folder=folder)[0]  # what has no effect here is not the matter


def without_time(value):
    """Results without what a clock, a memory counter or a command line put there."""
    changing = {
        "seconds",
        "answer_seconds",
        "aggregate_seconds",
        "validate_seconds",
        "created_utc",
        "peak_memory_bytes",
        "command",
    }
    if isinstance(value, dict):
        return {k: without_time(v) for k, v in value.items() if k not in changing}
    return [without_time(v) for v in value] if isinstance(value, list) else value

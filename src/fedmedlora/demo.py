"""The demo: five synthetic hospitals, a real language model, one federated study from note to report.

It writes its notes and its study file into the output folder, so what runs is an ordinary study that can
be changed and run again with ``fedmedlora run``.
"""

from __future__ import annotations

from pathlib import Path

from fedmedlora.corpora.jsonl import write_notes
from fedmedlora.corpora.note import Note
from fedmedlora.corpora.synthetic import HOSPITALS, hospital, synthesize
from fedmedlora.run_folder import write_file

SEED = 7
NUM_TRAIN_NOTES = 60
NUM_TEST_NOTES = 2
NUM_VALIDATION_NOTES = 1  # of each training site

_STUDY = """\
# The study that `fedmedlora demo` runs. docs/study-file.md explains every key.
name = "Demo: five synthetic hospitals"
seed = {seed}
methods = ["zero_shot", "fed_medlora", "fed_medlora_plus"]

[model]
name = "smollm2-135m"

[adapter]
rank = 16
alpha = 32.0

[tasks]
prompts = "short"

[training]
rounds = 3
steps_per_round = 11
examples_per_step = 8
micro_batch = 8
learning_rate = 2e-3
decision_weight = 1.25
warmup_steps = 3
max_train_examples = 400
modifier_share = 0.6

[rules.fed_medlora_plus]
gamma = 1.0
tau = 1.0

[validation]
notes = ["notes/validation.jsonl"]
max_sentences = 12

[evaluation]
zero_shot_free = false   # true reads the untrained model freely as well, and takes five minutes more
"""


def write_demo(folder: Path) -> Path:
    """Write the demo's notes and ``study.toml`` into ``folder``; returns the study file."""
    notes_folder = folder / "notes"
    notes_folder.mkdir(parents=True, exist_ok=True)
    tables: list[str] = []
    validation: list[Note] = []
    for name in HOSPITALS:
        kind = hospital(name).kind
        if kind == "site":
            _write(notes_folder / f"{name}.train.jsonl", name, NUM_TRAIN_NOTES, "train")
            validation += synthesize(name, NUM_VALIDATION_NOTES, SEED, "validation")
            train = f'train = "notes/{name}.train.jsonl"\n'
            tables.append(f'[[sites]]\nname = "{name}"\n{train}test = "notes/{name}.test.jsonl"\n')
        else:
            tables.append(
                f'[[cohorts]]\nname = "{name}"\nkind = "{kind}"\ntest = "notes/{name}.test.jsonl"\n'
            )
        _write(notes_folder / f"{name}.test.jsonl", name, NUM_TEST_NOTES, "test")
    header = {"name": "validation", "schema": "clinical", "synthetic": True}
    write_notes(notes_folder / "validation.jsonl", validation, header=header)
    study = folder / "study.toml"
    write_file(study, "\n".join([_STUDY.format(seed=SEED), *tables]).encode())
    return study


def _write(path: Path, name: str, num_notes: int, part: str) -> None:
    header = {"name": f"{name}, {part}", "schema": "clinical", "synthetic": True}
    write_notes(path, synthesize(name, num_notes, SEED, part), header=header)

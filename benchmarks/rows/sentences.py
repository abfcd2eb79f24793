"""The sentences: of real notes where the open corpora are at hand, else of the synthetic hospitals.

They are drawn so that their lengths are spread as those of all sentences are: sorted by length, and the
middle one of each of as many equal parts. Ratios depend on that spread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from fedmedlora.corpora.convert import convert
from fedmedlora.corpora.mapping import shipped_mapping
from fedmedlora.corpora.note import Note
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.corpora.sentences import sentences
from fedmedlora.corpora.synthetic import HOSPITALS, synthesize
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.training_set import training_set
from rows.setting import Setting, corpora_folder

CORPUS = "kiwi_mtsamples"
NUM_SYNTHETIC = 60


def notes(setting: Setting, part: str) -> tuple[Note, ...]:
    """Notes of ``part``, "train" or "test"."""
    return _synthetic(part, 4) if setting.smoke else _notes(part)


def source(setting: Setting) -> str:
    """Where the sentences come from, in words."""
    if not setting.smoke and _folder().is_dir():
        return f"sentences of {CORPUS}, real notes"
    return f"sentences of the synthetic hospital {HOSPITALS[0]}"


def examples(setting: Setting, part: str, task: str, num: int, *, form: str = "markup") -> list[Example]:
    """``num`` examples of ``task`` with their answers, all with one instruction, longest first."""
    return spread_by_length(_rendered(setting.smoke, part, task, form), num)


@cache
def _rendered(smoke: bool, part: str, task: str, form: str) -> tuple[Example, ...]:
    tasks = ("ner",) if task == "ner" else ("ner", task)
    found = notes(Setting(smoke=smoke), part)
    # The study prompts are the paper's; a smoke run need not wait for hundreds of tokens.
    how = {"prompt_set": "short" if smoke else "study", "form": form}
    every = training_set(found, CLINICAL, tasks=tasks, **how).examples[task]
    ((most, _),) = Counter(example.instruction for example in every).most_common(1)
    return tuple(example for example in every if example.instruction == most)


@cache
def _notes(part: str) -> tuple[Note, ...]:
    folder = _folder()
    if not folder.is_dir():
        return _synthetic(part, NUM_SYNTHETIC)
    mapping = shipped_mapping(CORPUS)
    found = convert(CORPUS, folder, mapping=mapping).notes
    return tuple(note for note in found if note.meta.get("part") == part)


def _synthetic(part: str, num: int) -> tuple[Note, ...]:
    return tuple(synthesize(HOSPITALS[0], num, seed=0, part=part))


def _folder() -> Path:
    folder = corpora_folder() / CORPUS
    return folder / "raw" if (folder / "raw").is_dir() else folder


def spread_by_length(every: Sequence[Example], num: int) -> list[Example]:
    """The middle one of each of ``num`` equal parts of ``every``, longest first; all, where it has fewer."""
    ordered = sorted(every, key=lambda e: (len(e.pieces), e.id), reverse=True)
    if len(ordered) <= num:
        return ordered
    return [ordered[int((place + 0.5) * len(ordered) / num)] for place in range(num)]


def as_notes(setting: Setting, chosen: Sequence[Example]) -> list[Note]:
    """Each sentence as a note of its own, for whoever reads notes; annotations left out."""
    by_id = {note.id: note for part in ("train", "test") for note in notes(setting, part)}
    found = []
    for number, example in enumerate(chosen):
        note = by_id[example.note_id]
        text = note.text[example.pieces[0].start : example.pieces[-1].end]
        found.append(replace(note, id=f"s{number}", text=text, entities=(), modifiers=(), links=()))
    return found


def num_segments(chosen: Sequence[Note]) -> int:
    """How many sentences a reader of notes will see in ``chosen``."""
    return sum(len(sentences(note.text)) for note in chosen)

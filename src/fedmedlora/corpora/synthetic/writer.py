"""Writing the notes of a synthetic hospital. Nobody in them exists, and no sentence is copied.

Note ``i`` depends on (hospital, part, seed, i) alone, so more notes never change the earlier ones.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from fedmedlora.corpora.note import Note
from fedmedlora.corpora.synthetic.builder import NoteBuilder
from fedmedlora.corpora.synthetic.fill import Filler, Patient
from fedmedlora.corpora.synthetic.hospital import Hospital, Section, hospital

PARTS = ("train", "validation", "test")
_OPTIONAL_SHARE = 0.6  # how often an optional section is written
_SECOND_NOTE_SHARE = 0.25  # how often a patient has a second note


def synthesize(hospital_name: str, num_notes: int, seed: int, part: str = "train") -> tuple[Note, ...]:
    """``num_notes`` notes of one hospital, with exact offsets; same arguments, same notes.

    ``part``: "train", "validation" or "test"; the last two share their words, and only about two thirds of
    them with "train". ``Note.group`` is the synthetic patient, some of whom have two notes. ValueError
    for an unknown hospital or part, or a negative number of notes.
    """
    place = hospital(hospital_name)
    if part not in PARTS:
        raise ValueError(f"part is {part!r}; it must be one of {list(PARTS)}")
    if num_notes < 0:
        raise ValueError(f"num_notes is {num_notes}; it must be 0 or more")
    key = f"fedmedlora-synthetic:{hospital_name}:{part}:{seed}"
    patients = _patients(place, num_notes, part, random.Random(f"{key}:patients"))
    return tuple(
        _note(place, patient, f"{hospital_name}-{part}-{i:04d}", part != "train", random.Random(f"{key}:{i}"))
        for i, patient in enumerate(patients, start=1)
    )


def _patients(place: Hospital, num_notes: int, part: str, rng: random.Random) -> list[Patient]:
    """The patient of every note; a patient with two notes has them one after the other."""
    patients: list[Patient] = []
    while len(patients) < num_notes:
        number = len({patient.id for patient in patients}) + 1
        one = Patient(f"{place.name}-{part}-p{number:04d}", rng.randint(*place.ages), rng.random() < 0.5)
        patients.extend([one] * (2 if rng.random() < _SECOND_NOTE_SHARE else 1))
    return patients[:num_notes]


def _note(place: Hospital, patient: Patient, note_id: str, held_out: bool, rng: random.Random) -> Note:
    builder = NoteBuilder(place.annotates)
    focus = rng.choices(list(place.specialties), list(place.specialties.values()))[0]
    filler = Filler(place, held_out, patient, rng, focus)
    kind = rng.choices(place.notes, [n.weight for n in place.notes])[0]
    distractors = rng.sample(place.distractors, len(place.distractors))
    for name in kind.sections:
        if name.endswith("?") and rng.random() >= _OPTIONAL_SHARE:
            continue
        if builder.length:
            builder.add("\n")
        _write_section(builder, filler, place.sections[name.rstrip("?")], place.case, distractors)
    return builder.note(note_id, patient.id, {"note_type": kind.name})


def _write_section(
    builder: NoteBuilder, filler: Filler, section: Section, case: str, distractors: list[str]
) -> None:
    rng = filler.rng
    change: Callable[[str], str] = str
    if section.upper:
        change = _capitals
    elif case == "lower":
        change = str.lower
    wanted = min(rng.randint(*section.count), len(section.templates))
    chosen = rng.sample(section.templates, wanted)
    if section.opening:
        chosen.insert(0, rng.choice(section.opening))
    if distractors and rng.random() < section.distractor:
        chosen.insert(rng.randint(0, len(chosen)), distractors.pop())
    if section.heading:
        builder.add(section.heading)
        builder.add(" " if section.style == "inline" else "\n")
    for number, template in enumerate(chosen, start=1):
        if section.style == "list":
            builder.add(section.bullet.replace("#", str(number)))
        builder.add_sentence(filler.sentence(template), change)
        builder.add("\n" if section.style == "list" or number == len(chosen) else " ")


def _capitals(text: str) -> str:
    return "".join(c if c == "µ" else c.upper() for c in text)  # the capital of µ is another letter, Μ

"""The site's notes: readable, in the schema's labels, test apart from training. Counts are told, no text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from fedmedlora.corpora.instructions import holds_instructions
from fedmedlora.corpora.jsonl import NoteSet
from fedmedlora.corpora.schema import Schema
from fedmedlora.flower.checks.finding import Finding
from fedmedlora.flower.site_file import SiteFile
from fedmedlora.prepare import read_notes, refuse_overlap
from fedmedlora.tasks.instruction import NAME as INSTRUCTION

TRAIN, TEST, APART = "training notes", "test notes", "test apart"
_CONVERT = (
    "`fedmedlora corpora convert` brings notes in other formats and labels (docs/formats.md), and --schema "
    "names a schema of the study's own"
)


def check_notes(site: SiteFile, schema: Schema) -> tuple[Finding, ...]:
    """Training notes, test notes where ``site.toml`` names any, and whether they share a note or patient."""
    read: dict[str, NoteSet] = {}
    findings = []
    for what, name in _wanted(site).items():
        path = site.path(name)
        try:
            path.stat()
            read[what] = read_notes(path, schema, (INSTRUCTION,) if holds_instructions(path) else ("ner",))
        except OSError as error:
            findings.append(_not_readable(what, path, error))
        except ValueError as error:  # words of ours: file, line, label
            findings.append(Finding(what, False, str(error), _CONVERT))
        else:
            findings.append(_counted(what, path, read[what]))
    if len(read) == 2:
        findings.append(_apart(site, read))
    return tuple(findings)


def check_there(site: SiteFile) -> tuple[Finding, ...]:
    """Whether the files of notes that ``site.toml`` names are there; what they hold is not looked at."""
    findings = []
    for what, name in _wanted(site).items():
        try:
            site.path(name).stat()
        except OSError as error:
            findings.append(_not_readable(what, site.path(name), error))
        else:
            findings.append(Finding(what, True, f"{name} is there"))
    return tuple(findings)


def _wanted(site: SiteFile) -> dict[str, str]:
    return {TRAIN: site.train} | ({TEST: site.test} if site.test else {})


def _not_readable(what: str, path: Path, error: OSError) -> Finding:
    key = "train" if what == TRAIN else "test"
    if isinstance(error, FileNotFoundError):
        none = "" if what == TRAIN else ', or write test = "" for none'
        advice = f"put annotated notes there, or name the file under {key} in site.toml{none}; {_CONVERT}"
        return Finding(what, False, f"{path}: there is no such file", advice)
    where = f"correct {key} in site.toml, or let this account read it"
    return Finding(what, False, f"{path}: {error.strerror}", where)


def _counted(what: str, path: Path, found: NoteSet) -> Finding:
    if not found.notes:
        return Finding(what, False, f"{path.name}: no note", f"put annotated notes there; {_CONVERT}")
    entities = Counter(entity.type for note in found.notes for entity in note.entities)
    links = sum(len(note.links) for note in found.notes)
    told = [f"{len(found.notes)} notes"]
    if entities:
        by_type = ", ".join(f"{num} {kind}" for kind, num in sorted(entities.items()))
        told.append(f"{sum(entities.values())} entities ({by_type})")
    if links:
        told.append(f"{links} modifiers of entities")
    skipped = found.header.get("skipped") or {}
    if skipped:
        told.append(f"{sum(skipped.values())} annotations left out when they were converted")
    return Finding(what, True, f"{path.name}: {', '.join(told)}")


def _apart(site: SiteFile, read: Mapping[str, NoteSet]) -> Finding:
    try:
        refuse_overlap([], {site.name: read[TRAIN]}, {site.name: read[TEST]})
    except ValueError as error:
        return Finding(
            APART, False, str(error), "`fedmedlora corpora split` deals notes out so that they are"
        )
    return Finding(APART, True, "no note and no patient in both")

"""The site's notes: readable, in the schema's labels, test apart from training. Counts are told, no text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from fedmedlora.corpora.instructions import holds_instructions
from fedmedlora.corpora.jsonl import NoteSet
from fedmedlora.corpora.schema import Schema
from fedmedlora.flower.checks.finding import Finding
from fedmedlora.flower.checks.there import CONVERT, TEST, TRAIN, not_readable, wanted
from fedmedlora.flower.site_file import SiteFile
from fedmedlora.prepare import read_notes, refuse_overlap
from fedmedlora.tasks.instruction import NAME as INSTRUCTION

APART = "test apart"


def check_notes(site: SiteFile, schema: Schema) -> tuple[Finding, ...]:
    """Training notes, test notes where ``site.toml`` names any, and whether they share a note or patient."""
    read: dict[str, NoteSet] = {}
    findings = []
    for what, name in wanted(site).items():
        path = site.path(name)
        try:
            path.stat()
            read[what] = read_notes(path, schema, (INSTRUCTION,) if holds_instructions(path) else ("ner",))
        except OSError as error:
            findings.append(not_readable(what, path, error))
        except ValueError as error:  # words of ours: file, line, label
            findings.append(Finding(what, False, str(error), CONVERT))
        else:
            findings.append(_counted(what, path, read[what]))
    if len(read) == 2:
        findings.append(_apart(site, read))
    return tuple(findings)


def _counted(what: str, path: Path, found: NoteSet) -> Finding:
    if not found.notes:
        return Finding(what, False, f"{path.name}: no note", f"put annotated notes there; {CONVERT}")
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

"""Example predictions for a report, of synthetic cohorts only: a report never shows a real note."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedmedlora.corpora.jsonl import read_notes
from fedmedlora.corpora.note import Entity, Note
from fedmedlora.corpora.sentences import sentences
from fedmedlora.study import Study

NUM_PER_COHORT = 2


def report_examples(study: Study, results: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Some sentences per synthetic cohort with gold and predicted entities of the last trained method.

    Texts come from the study's own test files; predictions from the run's folder. Empty when nothing
    was trained or no cohort is synthetic.
    """
    trained = [method for method in results["methods"] if method["adapter"]]
    if not trained:
        return []
    method = trained[-1]
    files = {site.name: site.test for site in study.sites if site.test}
    files |= {cohort.name: cohort.test for cohort in study.cohorts}
    found = []
    for cohort in results["cohorts"]:
        name = cohort["name"]
        predictions = folder / "predictions" / Path(method["adapter"]).name / "constrained" / "end-to-end"
        predicted = predictions / f"{name}.jsonl"
        path = study.resolve(files[name]) if name in files else None
        if not cohort["synthetic"] or path is None or path.suffix != ".jsonl" or not predicted.exists():
            continue
        gold = {note.id: note for note in read_notes(path).notes}
        notes = [(gold[note.id], note) for note in read_notes(predicted).notes if note.id in gold]
        found += [
            {"cohort": name, "synthetic": True, "method": method["label"], **sentence}
            for sentence in _sentences(notes)
        ]
    return found


def _sentences(notes: list[tuple[Note, Note]]) -> list[dict[str, Any]]:
    """The sentences with most gold entities, at most one per note."""
    best = []
    for gold, predicted in notes:
        cuts = sentences(gold.text)
        if cuts:
            start, end = max(cuts, key=lambda cut: len(_spans(gold.entities, *cut)))
            best.append(
                {
                    "text": gold.text[start:end],
                    "gold": _spans(gold.entities, start, end),
                    "predicted": _spans(predicted.entities, start, end),
                }
            )
    return sorted(best, key=lambda sentence: -len(sentence["gold"]))[:NUM_PER_COHORT]


def _spans(entities: tuple[Entity, ...], start: int, end: int) -> list[tuple[str, int, int]]:
    return [(e.type, e.start - start, e.end - start) for e in entities if start <= e.start and e.end <= end]

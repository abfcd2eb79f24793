"""A first look at somebody's own annotated notes, and a mapping guessed from their labels."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fedmedlora.corpora.formats import load_reader
from fedmedlora.corpora.mapping import FORMAT, VERSION
from fedmedlora.corpora.raw import RawNote
from fedmedlora.corpora.schema import CLINICAL, Schema

_Key = TypeVar("_Key")

# Names that other schemes give to the types of the clinical schema; compared without case, plural s,
# spaces and signs. Ambiguous ones ("finding", "value", "date", "anatomy") follow the usual clinical use.
_SYNONYMS = {
    "problem": "disease disorder diseasedisorder diagnosis symptom signsymptom sign condition finding "
    "complaint adverseevent ade sideeffect medicalproblem medicalcondition pathology illness syndrome "
    "abnormality injury indication reason clinicalfinding phenotype diseaseorsyndrome",
    "treatment": "procedure therapy therapeuticprocedure intervention surgery operation device treatment "
    "medicaldevice medicalprocedure therapeutic radiotherapy",
    "drug": "medication medicine chemical medicament pharmaceutical substance drugname medicationname "
    "prescription immunization vaccine activeingredient compound",
    "test": "lab laboratory labtest laboratorytest measurement diagnosticprocedure exam examination "
    "investigation vital vitalsign testname labname imaging diagnostictest",
    "severity": "grade degree intensity",
    "condition": "conditional hypothetical",
    "uncertain": "uncertainty possible speculated speculation hedge certainty",
    "subject": "experiencer familymember family",
    "bodyloc": "bodylocation bodypart anatomy anatomicalsite anatomicallocation bodysite "
    "biologicalstructure anatomicalstructure organ location anatomicalentity",
    "course": "stability trend progression clinicalcourse",
    "strength": "drugstrength concentration",
    "dosage": "dose drugdose drugdosage amount",
    "duration": "drugduration",
    "form": "drugform doseform formulation",
    "frequency": "freq drugfrequency",
    "route": "administration drugroute administrationroute mode routeofadministration",
    "labvalue": "value result testresult testvalue labresult measurementvalue laboratoryvalue",
    "reference_range": "range normalrange referencerange",
    "temporal": "time date temporality timeexpression timex timex3 timeelapsed temporalexpression",
    "negation": "negated negative neg negationcue absent polarity",
}


@dataclass(frozen=True, slots=True)
class InspectedFolder:
    """One folder: ``site`` is the name it gets, unique among the folders."""

    site: str
    path: Path
    num_notes: int
    num_annotated_notes: int
    num_spans: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """Labels with counts over all folders, links by their ends' labels, and guessed types.

    ``relations``: (relation, Arg1's label, Arg2's label) -> count. ``roles``: (role, trigger's label,
    argument's label) -> count. ``guesses``: label -> type of the schema, only where there is a guess.
    """

    folders: tuple[InspectedFolder, ...]
    labels: dict[str, int]
    relations: dict[tuple[str, str, str], int]
    roles: dict[tuple[str, str, str], int]
    guesses: dict[str, str]
    schema: Schema
    reader: str = "brat"


def inspect(folders: Iterable[Path | str], schema: Schema = CLINICAL, *, reader: str = "brat") -> Inspection:
    """Read folders (or archives, or files) with ``reader``, a format by name.

    Raises ``ValueError`` for none, for one twice, for an unknown reader and for bad files.
    """
    read = load_reader(reader)
    paths = [Path(folder) for folder in folders]
    if not paths:
        raise ValueError("give at least one folder with annotated notes; each becomes a site")
    seen: dict[Path, Path] = {}
    found = []
    labels: Counter[str] = Counter()
    relations: Counter[tuple[str, str, str]] = Counter()
    roles: Counter[tuple[str, str, str]] = Counter()
    for path, site in zip(paths, _site_names(paths), strict=True):
        if path.resolve() in seen:
            raise ValueError(f"{path}: is given twice; each folder becomes one site")
        seen[path.resolve()] = path
        raws = read(path)
        if not raws:
            raise ValueError(
                f"{path}: holds no .txt file; a BRAT folder has .txt files with .ann beside them"
                if reader == "brat"
                else f"{path}: holds no note that the reader {reader!r} can see; is it the right folder?"
            )
        for raw in raws:
            _count(raw, labels, relations, roles)
        num_annotated = sum(bool(raw.spans) for raw in raws)
        found.append(InspectedFolder(site, path, len(raws), num_annotated, sum(len(r.spans) for r in raws)))
    guesses = {label: guess for label in sorted(labels) if (guess := guess_type(label, schema))}
    return Inspection(
        tuple(found), _by_count(labels), _by_count(relations), _by_count(roles), guesses, schema, reader
    )


def guess_type(label: str, schema: Schema = CLINICAL) -> str:
    """The schema's type that ``label`` most likely means, or "".

    A label that is a name of the schema, letter for letter, is that ("condition"); otherwise an entity
    comes before a modifier ("Condition", as many schemes call a problem).
    """
    if label in (*schema.entities, *schema.modifiers):
        return label
    plain = _plain(label)
    for name in (*schema.entities, *schema.modifiers):
        if plain == _plain(name) or plain in map(_plain, _SYNONYMS.get(name, "").split()):
            return name
    return ""


def mapping_toml(inspection: Inspection, name: str = "mine", *, schema_file: str = "") -> str:
    """The text of a ``mapping.toml`` that ``mapping.load_mapping`` reads, guesses and gaps marked.

    Labels without a guess stand in ``ignore``, with their counts, for the user to move into a rule.
    ``schema_file``: path of the schema, from where the mapping will lie; "": the default one.
    Where no label looks like an entity the text says so; it has to be filled in before it loads.
    """
    schema, guesses, labels = inspection.schema, inspection.guesses, inspection.labels
    unknown = [label for label in labels if label not in guesses]
    entities = [label for label in labels if guesses.get(label) in schema.entities]
    ends, unlinked = _link_ends(inspection)
    lines = [
        "# Guessed from the labels found; check every line. Sites: "
        + ", ".join(f"{_quoted(f.site)} ({f.num_notes} notes)" for f in inspection.folders),
        f"# Entity types: {', '.join(schema.entities)}.",
        f"# Modifiers: {', '.join(schema.modifiers)}.",
        f'format = "{FORMAT}"',
        f"version = {VERSION}",
        f"name = {_quoted(name)}",
        f'reader = "{inspection.reader}"',
        *([f"schema = {_quoted(schema_file)}"] if schema_file else []),
        "",
        "# Labels without a guess. To use one, move it into a rule below:",
        "# [[entity]] (or [[modifier]]), label = [...], type = one of the names above.",
        *_list("ignore", [(label, f"{labels[label]} spans") for label in unknown]),
        "",
        "# Relations and event roles that tie no entity to a modifier.",
        *_list("ignore_links", unlinked),
    ]
    if not entities:
        lines += [
            "",
            "# No label looks like an entity: at least one [[entity]] rule has to be filled in here.",
        ]
    for kind, types in (("entity", schema.entities), ("modifier", schema.modifiers)):
        for new_type in types:
            mapped = [label for label in labels if guesses.get(label) == new_type]
            if mapped:
                counts = ", ".join(f"{_quoted(label)} {labels[label]}" for label in mapped)
                lines += ["", f"[[{kind}]]  # spans: {counts}"]
                lines += [f"label = [{', '.join(map(_quoted, mapped))}]", f'type = "{new_type}"']
    for (form, end), names in ends.items():
        lines += ["", "[[link]]", f"{form} = [{', '.join(map(_quoted, names))}]", f'entity = "{end}"']
    return "\n".join(lines) + "\n"


def _link_ends(
    inspection: Inspection,
) -> tuple[dict[tuple[str, str], list[str]], list[tuple[str, str]]]:
    """(form, entity's end) -> names of links that tie entities to modifiers; and the names that do not."""
    schema, guesses = inspection.schema, inspection.guesses
    ends: dict[tuple[str, str], list[str]] = {}
    rest: list[tuple[str, str]] = []
    for form, found, first, second, both in (
        ("relation", inspection.relations, "Arg1", "Arg2", "either"),
        ("role", inspection.roles, "trigger", "argument", ""),
    ):
        for name in dict.fromkeys(key[0] for key in found):
            shapes = [key for key in found if key[0] == name]
            kinds = [(guesses.get(a, ""), guesses.get(b, "")) for _, a, b in shapes]
            forward = any(b in schema.modifiers_of(a) for a, b in kinds)
            backward = any(a in schema.modifiers_of(b) for a, b in kinds)
            if not forward and not backward:
                shown = ", ".join(f"{_quoted(a)} to {_quoted(b)} {found[n, a, b]}" for n, a, b in shapes[:3])
                rest.append((name, shown))
            elif forward and backward and both:
                ends.setdefault((form, both), []).append(name)
            else:
                for wanted, end in ((forward, first), (backward, second)):
                    if wanted:
                        ends.setdefault((form, end), []).append(name)
    return ends, rest


def _count(
    raw: RawNote,
    labels: Counter[str],
    relations: Counter[tuple[str, str, str]],
    roles: Counter[tuple[str, str, str]],
) -> None:
    label = {span.id: span.label for span in raw.spans}
    labels.update(label.values())
    for relation in raw.relations:
        relations[relation.label, label.get(relation.source, ""), label.get(relation.target, "")] += 1
    for event in raw.events:
        for role, argument in event.roles:
            roles[role, label.get(event.trigger, ""), label.get(argument, "")] += 1


def _by_count(counts: Counter[_Key]) -> dict[_Key, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], str(item[0]))))


def _site_names(paths: list[Path]) -> list[str]:
    """The folders' names in the characters that a site's name may have, made unique by a number."""
    names: list[str] = []
    for path in paths:
        last = path.resolve().name.removesuffix(".gz").removesuffix(".tar").removesuffix(".zip")
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", last).strip("-")[:40] or "site"
        name, number = plain, 1
        while name.lower() in map(str.lower, names):  # names become files, and not everywhere is A not a
            number += 1
            name = f"{plain}-{number}"
        names.append(name)
    return names


def _plain(label: str) -> str:
    plain = re.sub(r"[\W_]+", "", label.lower())
    return plain.removesuffix("s") if not plain.endswith(("ss", "is")) else plain


def _quoted(value: str) -> str:
    """A TOML basic string."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(key: str, items: list[tuple[str, str]]) -> list[str]:
    if not items:
        return [f"{key} = []"]
    return [f"{key} = [", *(f"  {_quoted(value)},  # {comment}" for value, comment in items), "]"]

"""The extraction schema as data: entity types, modifiers, which modifier may attach to which, definitions.

A schema is a TOML file:

    format = "fedmedlora-schema"
    version = 1
    name = "birds"                     # what notes in this schema name in their header

    [[entity]]                         # in the order in which prompts and tables show them
    name = "bird"
    long = "any bird that was seen"    # optional: what the label means, in the prompts of the set "study"
    short = "bird seen"                # optional: the same, in those of the set "short"
    modifiers = ["colour", "number"]   # optional: what may attach to it; each makes a pair

    [[modifier]]
    name = "colour"
    long = "the colour of its feathers"

    [[modifier]]
    name = "number"

The package's own schemas are such files too, found by name and by nothing else. The default is
``schemas/clinical.toml``, the scheme of Li et al. (arXiv:2601.22124): 4 entity types, 16 modifiers, 22 pairs.
A pair is written ``"problem.negation"`` everywhere: in notes, counts, reports and study files.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from fedmedlora.corpora.json_lines import check_keys

FORMAT = "fedmedlora-schema"
VERSION = 1
MAX_BYTES = 1_000_000

# What a label may be: it becomes a tag, half of a pair, a JSON text and a BRAT type, and is shown in reports.
LABEL = re.compile("[A-Za-z][A-Za-z0-9_-]{0,39}")
MAX_LABELS = 200  # entity types and modifiers together; a prompt names them all
MAX_DEFINITION = 400  # characters


_KEYS = {
    "": ("format", "version", "name", "entity", "modifier"),
    "entity": ("name", "long", "short", "modifiers"),
    "modifier": ("name", "long", "short"),
}


@dataclass(frozen=True, slots=True)
class Definition:
    """What ``label`` means, as prompts say it: ``long`` in the set "study", ``short`` in the set "short".

    An empty text: the label speaks for itself there.
    """

    label: str
    long: str = ""
    short: str = ""


@dataclass(frozen=True, slots=True)
class Schema:
    """Entity types, modifier types, the allowed (entity type, modifier type) pairs, and definitions.

    ``entities`` and ``modifiers`` are in canonical order: prompts, tables and tie-breaks follow it. A label
    without a definition speaks for itself. Raises ``ValueError`` for what cannot be: a label twice (upper
    and lower case count as the same), a label with characters that ``LABEL`` does not hold, a pair or a
    definition of an unknown label, no entity type.
    """

    name: str
    entities: tuple[str, ...]
    modifiers: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]  # (entity type, modifier type)
    definitions: tuple[Definition, ...] = ()

    def __post_init__(self) -> None:
        here = f"schema {self.name[:40]!r}"
        for what, label in (
            ("name", self.name),
            *(("entity type", e) for e in self.entities),
            *(("modifier", m) for m in self.modifiers),
        ):
            if not LABEL.fullmatch(label):
                raise ValueError(
                    f"{here}: the {what} {label[:40]!r} must begin with a letter and hold letters, digits, "
                    "_ and - only, 40 at most (it becomes a tag and a type in files)"
                )
        if not self.entities:
            raise ValueError(f"{here}: has no entity type; it needs at least one")
        if len(self.entities) + len(self.modifiers) > MAX_LABELS:
            raise ValueError(f"{here}: has more than {MAX_LABELS} labels; a prompt has to name them all")
        _refuse_twice(here, self.entities, self.modifiers)
        for entity_type, modifier_type in self.pairs:
            if entity_type not in self.entities or modifier_type not in self.modifiers:
                raise ValueError(
                    f"{here}: pair {entity_type[:40]}.{modifier_type[:40]} names an unknown type; "
                    f"entity types are {list(self.entities)}, modifiers {list(self.modifiers)}"
                )
        if len(set(self.pairs)) != len(self.pairs):
            raise ValueError(f"{here}: a pair is named twice; name each once")
        _check_definitions(here, (*self.entities, *self.modifiers), self.definitions)

    def modifiers_of(self, entity_type: str) -> tuple[str, ...]:
        """Modifier types that may attach to ``entity_type``, in canonical order."""
        allowed = {m for e, m in self.pairs if e == entity_type}
        return tuple(m for m in self.modifiers if m in allowed)

    def pair_names(self) -> tuple[str, ...]:
        """All allowed pairs as ``"entity.modifier"``."""
        return tuple(f"{e}.{m}" for e, m in self.pairs)

    def definition(self, label: str) -> Definition:
        """What ``label`` means; without texts where nobody said."""
        return next((one for one in self.definitions if one.label == label), Definition(label))


def _refuse_twice(here: str, entities: tuple[str, ...], modifiers: tuple[str, ...]) -> None:
    seen: dict[str, tuple[str, str]] = {}
    for what, label in (*(("entity type", e) for e in entities), *(("modifier", m) for m in modifiers)):
        before = seen.setdefault(label.lower(), (what, label))
        if before == (what, label) and (entities if what == "entity type" else modifiers).count(label) == 1:
            continue
        raise ValueError(
            f"{here}: {label!r} is named twice, as {before[0]} {before[1]!r} and as {what}; a label has one "
            "meaning, and upper and lower case count as the same"
        )


def _check_definitions(here: str, labels: tuple[str, ...], definitions: tuple[Definition, ...]) -> None:
    named = [one.label for one in definitions]
    if len(set(named)) != len(named) or not set(named) <= set(labels):
        raise ValueError(f"{here}: each definition must be of another label of the schema")
    for one in definitions:
        for text in (one.long, one.short):
            # One printable line: it stands in a list of the prompt.
            if len(text) > MAX_DEFINITION or not text.isprintable():
                raise ValueError(
                    f"{here}: the definition of {one.label!r} must be one line of at most {MAX_DEFINITION} "
                    "printable characters"
                )


@cache
def schema_names() -> tuple[str, ...]:
    """Schemas that the package brings, sorted."""
    files = resources.files("fedmedlora.corpora").joinpath("schemas").iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


@cache
def shipped_schema(name: str) -> Schema:
    """The package's own schema ``name``. Raises ``ValueError`` listing the known names."""
    if name not in schema_names():
        raise ValueError(
            f"unknown schema {name[:80]!r}; known: {', '.join(schema_names())}, or give the path of a file"
        )
    file = resources.files("fedmedlora.corpora").joinpath("schemas", f"{name}.toml")
    return _parse(file.read_text(encoding="utf-8"), f"schemas/{name}.toml")


def find_schema(named: str, folder: Path = Path()) -> Schema:
    """The schema that a user named: one of the package by its name, else the file at ``folder / named``.

    Raises ``ValueError`` as ``load_schema`` does.
    """
    return shipped_schema(named) if named in schema_names() else load_schema(folder / named)


def load_schema(path: Path | str) -> Schema:
    """Read a schema file. Raises ``ValueError`` naming the file and the key that is wrong."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(
            f"{path}: there is no such file; give a schema's TOML file, or one of the names "
            f"{', '.join(schema_names())}"
        ) from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as a schema ({error.strerror}); give a TOML file") from None
    if len(content) > MAX_BYTES:
        raise ValueError(f"{path}: is larger than {MAX_BYTES} bytes, which no schema is")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from None
    return parse_schema(text, str(path))


def parse_schema(text: str, where: str) -> Schema:
    """A schema out of TOML text; ``where`` begins every message.

    Raises ``ValueError``, also for one that takes the name of a schema of the package and is another.
    """
    schema = _parse(text, where)
    # Notes name their schema: two that share a name could not be told apart.
    if schema.name in schema_names() and schema != shipped_schema(schema.name):
        raise ValueError(
            f"{where}: name: {schema.name!r} is another schema's, which fedmedlora brings; choose a name of "
            "your own"
        )
    return schema


def _parse(text: str, where: str) -> Schema:
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{where}: not TOML: {str(error)[:200]}") from None
    if table.get("format") != FORMAT or table.get("version") != VERSION:
        raise ValueError(f'{where}: must begin with format = "{FORMAT}" and version = {VERSION}')
    check_keys(table, _KEYS[""], where)
    entities, modifiers = _tables(table, "entity", where), _tables(table, "modifier", where)
    names = [one["name"] for one in modifiers]
    pairs = []
    for one in entities:
        given = one.get("modifiers", [])
        for modifier in given:
            if modifier not in names:
                near = get_close_matches(modifier, names, 1)
                hint = f"; did you mean {near[0]!r}?" if near else "."
                raise ValueError(
                    f"{where}: [[entity]] {one['name']}: modifiers: {modifier[:40]!r} has no [[modifier]] "
                    f"table{hint} There is one for: {', '.join(names) or 'none'}"
                )
        if len(set(given)) != len(given):
            raise ValueError(f"{where}: [[entity]] {one['name']}: modifiers: name each once")
        # In canonical order, so that the order in a list changes nothing.
        pairs += [(one["name"], modifier) for modifier in names if modifier in given]
    unused = [name for name in names if name not in {modifier for _, modifier in pairs}]
    if unused:
        raise ValueError(
            f"{where}: [[modifier]] {unused[0]}: attaches to nothing, so it would never be asked for; add it "
            "to the modifiers of an [[entity]], or remove it"
        )
    try:
        return Schema(
            name=_text(table, "name", where),
            entities=tuple(one["name"] for one in entities),
            modifiers=tuple(names),
            pairs=tuple(pairs),
            definitions=tuple(
                Definition(one["name"], one.get("long", ""), one.get("short", ""))
                for one in (*entities, *modifiers)
                if one.get("long") or one.get("short")
            ),
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _tables(table: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError(f"{where}: {key} must be written as [[{key}]], once per label")
    for number, one in enumerate(value, start=1):
        here = f"{where}: [[{key}]] number {number}"
        check_keys(one, _KEYS[key], here)
        _text(one, "name", here)
        for text in ("long", "short"):
            if not isinstance(one.get(text, ""), str):
                raise ValueError(f"{here}: {text} must be a text in quotes")
        given = one.get("modifiers", [])
        if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
            raise ValueError(f"{here}: modifiers must be a list of names of modifiers")
    return value


def _text(table: dict[str, Any], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where}: {key} must be there, a text in quotes that is not empty")
    return value


CLINICAL = shipped_schema("clinical")

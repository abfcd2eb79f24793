"""A mapping: how a source's own labels become the schema's. TOML, declarative, one file per corpus.

    format = "fedmedlora-mapping"
    version = 1
    name = "mine"
    reader = "brat"                    # a file in formats/
    schema = "mine.toml"               # optional: your own schema, a file beside this one
    inside = ["raw/x.zip", "x.zip"]    # optional: where the files lie under SRC; the first that exists
    parts = ["train", "test"]          # optional: folder names that become a note's meta["part"]
    ignore = ["Age"]                   # labels of spans without a mapping (counted as skipped)
    aliases = ["Drug-Name"]            # optional: labels that repeat an entity's span; what links to such a
                                       # span links to the entity
    ignore_links = ["AND"]             # relations and roles without a mapping (counted as skipped)

    [words]                            # optional: regular expressions, searched in a span's text
    diagnostic = '''(?i)\\bscan'''

    [[entity]]                         # the first rule that fits decides
    label = ["Procedure"]
    words = "diagnostic"               # optional
    # target_of = "Found-By"           # optional: only spans that such a relation points at (its Arg2)
    # attribute = "Kind"               # optional: only spans with such an attribute,
    # value = ["lab", "vital"]         #   of one of these values
    type = "test"

    [[modifier]]                       # optional: spans that are modifiers by their own label,
    label = ["Negation"]               # kept even when nothing links to them
    type = "negation"

    [[link]]                           # one of three forms says where a link comes from:
    relation = ["Has_negation"]        #   a relation ("*": any); entity = "Arg1", "Arg2" or "either"
    entity = "Arg1"
    # role = ["Severity"]              #   an event's argument; entity = "trigger" or "argument"
    # entity_role = ["Drug"]           #   two arguments of one event, every one with every one
    # modifier_role = ["Dosage"]
    modifier_label = ["Negation"]      # optional: labels that the modifier's span may have
    entities = ["problem", "drug"]     # optional: entity types; by default those the schema allows
    words = "diagnostic"               # optional: searched in the modifier's span
    # attribute, value                 # optional: as above, of the modifier's span
    type = "negation"                  # the modifier; absent: what the [[modifier]] rules say

    [annotates]                        # optional: derived from the rules when absent
    entities = ["problem"]
    pairs = ["problem.negation"]

Links made with ``words`` are derived, not gold.
"""

from __future__ import annotations

import re
import tomllib
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

from fedmedlora.corpora.formats import reader_names
from fedmedlora.corpora.json_lines import check_keys
from fedmedlora.corpora.mapping_rules import ANY, AttributeIs, LinkRule, Mapping, SpanRule
from fedmedlora.corpora.note import Annotates
from fedmedlora.corpora.schema import CLINICAL, Schema, find_schema, shipped_schema

FORMAT = "fedmedlora-mapping"
VERSION = 1

_KEYS = {
    "": (
        *(
            "format",
            "version",
            "name",
            "reader",
            "schema",
            "inside",
            "parts",
            "ignore",
            "aliases",
            "ignore_links",
        ),
        *("words", "entity", "modifier", "link", "annotates"),
    ),
    "entity": ("label", "type", "words", "target_of", "attribute", "value"),
    "modifier": ("label", "type"),
    "link": (
        *("relation", "role", "entity_role", "modifier_role", "entity"),
        *("modifier_label", "entities", "words", "attribute", "value", "type"),
    ),
    "annotates": ("entities", "pairs"),
}
_ENDS = {"relation": ("Arg1", "Arg2", "either"), "role": ("trigger", "argument")}


def mapping_names() -> tuple[str, ...]:
    """Corpora that a mapping is shipped for, sorted."""
    files = resources.files("fedmedlora.corpora").joinpath("mappings").iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


def shipped_mapping(name: str, schema: Schema = CLINICAL) -> Mapping:
    """The mapping shipped for corpus ``name``. Raises ``ValueError`` for other names and other schemas."""
    if name not in mapping_names():
        raise ValueError(
            f"no mapping is shipped for {name!r}; there is one for: {', '.join(mapping_names())}. "
            "For your own corpus give --reader and --mapping"
        )
    if schema != CLINICAL:
        raise ValueError(
            f"the mapping that is shipped for {name!r} leads to the schema {CLINICAL.name!r}, not to "
            f"{schema.name!r}; write a mapping to yours (docs/own-schema.md shows one) and give --mapping"
        )
    file = resources.files("fedmedlora.corpora").joinpath("mappings", f"{name}.toml")
    return parse_mapping(file.read_text(encoding="utf-8"), f"mappings/{name}.toml", schema)


def load_mapping(path: Path | str, schema: Schema | None = None) -> Mapping:
    """Read a mapping file. Raises ``ValueError`` naming the file and the key that is wrong.

    ``schema``: what it leads to; by default the schema that it names, and ``CLINICAL`` if it names none.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: byte {error.start} is not UTF-8") from None
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file; a mapping is a TOML file") from None
    return parse_mapping(text, str(path), schema, path.parent)


def identity_mapping(reader: str = "brat", schema: Schema = CLINICAL) -> Mapping:
    """For files already in the schema's labels; any relation of an entity and a modifier is a link."""
    pairs = frozenset(schema.pair_names())
    link = LinkRule("relation", (ANY,), "either", (), schema.modifiers, schema.entities, None, "")
    return Mapping(
        name="identity",
        reader=reader,
        inside=(),
        parts=(),
        ignore=frozenset(),
        ignore_links=frozenset(),
        entities=tuple(SpanRule((e,), e) for e in schema.entities),
        modifiers=tuple(SpanRule((m,), m) for m in schema.modifiers),
        links=(link,),
        annotates=Annotates(frozenset(schema.entities), pairs),
        schema=schema,
    )


def parse_mapping(text: str, where: str, schema: Schema | None = None, folder: Path | None = None) -> Mapping:
    """A mapping out of TOML text; ``where`` names it in messages. Raises ``ValueError``.

    ``schema``: see ``load_mapping``. ``folder``: where a schema that it names lies; None: it may name one
    of the package only.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{where}: not TOML: {error}") from None
    check_keys(table, _KEYS[""], where)
    if table.get("format") != FORMAT or table.get("version") != VERSION:
        raise ValueError(f'{where}: must begin with format = "{FORMAT}" and version = {VERSION}')
    schema = _schema(table, schema, folder, where)
    reader = _text(table, "reader", where)
    if reader not in reader_names():
        raise ValueError(f"{where}: unknown reader {reader!r}; known readers: {', '.join(reader_names())}")
    words = {name: _pattern(name, value, where) for name, value in _table(table, "words", where).items()}
    entities = tuple(
        _span_rule(r, "entity", schema.entities, words, h) for r, h in _rules(table, "entity", where)
    )
    modifiers = tuple(
        _span_rule(r, "modifier", schema.modifiers, words, h) for r, h in _rules(table, "modifier", where)
    )
    if not entities:
        raise ValueError(f"{where}: has no [[entity]] rule; without one no note would have an entity")
    ignored = frozenset(_texts(table, "ignore", where))
    # A rule with a condition may leave some spans of its label over, and those may be ignored.
    both = ignored & {
        label for rule in (*entities, *modifiers) if not rule.is_conditional for label in rule.labels
    }
    if both:
        raise ValueError(f"{where}: {min(both)!r} is in ignore and has a rule; take it out of one of them")
    types = {rule.type for rule in entities}
    direct = {rule.type for rule in modifiers}
    links = tuple(_link_rule(r, types, direct, words, schema, h) for r, h in _rules(table, "link", where))
    return Mapping(
        name=_text(table, "name", where),
        reader=reader,
        inside=_texts(table, "inside", where),
        parts=_texts(table, "parts", where),
        ignore=ignored,
        ignore_links=frozenset(_texts(table, "ignore_links", where)),
        entities=entities,
        modifiers=modifiers,
        links=links,
        annotates=_annotates(table, types, direct, links, schema, where),
        schema=schema,
        aliases=frozenset(_texts(table, "aliases", where)),
    )


def _schema(table: dict[str, Any], given: Schema | None, folder: Path | None, where: str) -> Schema:
    if "schema" not in table:
        return given or CLINICAL
    named = _text(table, "schema", where)
    found = shipped_schema(named) if folder is None else find_schema(named, folder)
    if given is not None and given != found:
        raise ValueError(
            f"{where}: schema: leads to {found.name!r}, and asked for is {given.name!r}; leave --schema out"
        )
    return found


def _table(table: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    value = table.get(key, {})
    if not isinstance(value, dict):
        raise ValueError(f"{where}: {key} must be a table: [{key}]")
    return value


def _rules(table: dict[str, Any], key: str, where: str) -> list[tuple[dict[str, Any], str]]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(rule, dict) for rule in value):
        raise ValueError(f"{where}: {key} must be written as [[{key}]], once per rule")
    found = [(rule, f"{where}: [[{key}]] number {i}") for i, rule in enumerate(value, start=1)]
    for rule, here in found:
        check_keys(rule, _KEYS[key], here)
    return found


def _text(table: dict[str, Any], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where}: {key} is {value!r}; it must be a string that is not empty")
    return value


def _texts(table: dict[str, Any], key: str, where: str) -> tuple[str, ...]:
    """A list of strings; one string alone is a list of one."""
    value = table.get(key, [])
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ValueError(f"{where}: {key} is {value!r}; it must be a string or a list of strings")
    return tuple(value)


def _pattern(name: str, value: object, where: str) -> re.Pattern[str]:
    if not isinstance(value, str):
        raise ValueError(f"{where}: words.{name} is {value!r}; it must be a regular expression in quotes")
    try:
        return re.compile(value)
    except re.error as error:
        raise ValueError(f"{where}: words.{name} is not a regular expression: {error}") from None


def _words(rule: dict[str, Any], words: dict[str, re.Pattern[str]], where: str) -> re.Pattern[str] | None:
    if "words" not in rule:
        return None
    if rule["words"] not in words:
        raise ValueError(
            f"{where}: words is {rule['words']!r}; [words] defines: {', '.join(words) or 'none'}"
        )
    return words[rule["words"]]


def _attribute(rule: dict[str, Any], where: str) -> AttributeIs | None:
    if "attribute" not in rule and "value" not in rule:
        return None
    values = _texts(rule, "value", where)
    if "attribute" not in rule or not values:
        raise ValueError(f"{where}: give attribute, the source's name of it, together with value")
    return AttributeIs(_text(rule, "attribute", where), values)


def _one_of(value: str, known: tuple[str, ...], key: str, where: str) -> str:
    if value not in known:
        near = get_close_matches(value.lower(), known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"{where}: {key} is {value!r}{hint} Allowed: {', '.join(known)}")
    return value


def _span_rule(
    rule: dict[str, Any],
    kind: str,
    known: tuple[str, ...],
    words: dict[str, re.Pattern[str]],
    where: str,
) -> SpanRule:
    labels = _texts(rule, "label", where)
    if not labels:
        raise ValueError(f"{where}: label is empty; name the source's labels that this {kind} rule maps")
    return SpanRule(
        labels,
        _one_of(_text(rule, "type", where), known, "type", where),
        _words(rule, words, where),
        _texts(rule, "target_of", where),
        _attribute(rule, where),
    )


def _link_rule(
    rule: dict[str, Any],
    entity_types: set[str],
    direct: set[str],
    words: dict[str, re.Pattern[str]],
    schema: Schema,
    where: str,
) -> LinkRule:
    forms = [form for form in ("relation", "role", "entity_role") if form in rule]
    if len(forms) != 1 or ("modifier_role" in rule) != (forms == ["entity_role"]):
        raise ValueError(f"{where}: give relation, or role, or entity_role together with modifier_role")
    form = forms[0]
    end = rule.get("entity", "")
    if form in _ENDS:
        end = _one_of(_text(rule, "entity", where), _ENDS[form], "entity", where)
    elif end:
        raise ValueError(f"{where}: entity has no effect beside entity_role; remove it")
    modifier = _one_of(rule["type"], schema.modifiers, "type", where) if "type" in rule else ""
    if not modifier and not direct:
        raise ValueError(f"{where}: give type, the modifier that the link makes (no [[modifier]] rule does)")
    known = tuple(e for e in schema.entities if e in entity_types)
    entities = tuple(_one_of(e, known, "entities", where) for e in _texts(rule, "entities", where))
    if modifier:
        allowed = tuple(e for e in known if modifier in schema.modifiers_of(e))
        for entity in entities:
            _one_of(entity, allowed, f"entities for {modifier}", where)
        entities = entities or allowed
    return LinkRule(
        form=form,
        names=_texts(rule, form, where),
        entity_end=end,
        modifier_roles=_texts(rule, "modifier_role", where),
        modifier_labels=_texts(rule, "modifier_label", where),
        entities=entities or known,
        words=_words(rule, words, where),
        type=modifier,
        attribute=_attribute(rule, where),
    )


def _annotates(
    table: dict[str, Any],
    entity_types: set[str],
    direct: set[str],
    links: tuple[LinkRule, ...],
    schema: Schema,
    where: str,
) -> Annotates:
    made = {(e, m) for link in links for e in link.entities for m in ({link.type} if link.type else direct)}
    derived = tuple(f"{e}.{m}" for e, m in schema.pairs if (e, m) in made)
    if "annotates" not in table:
        return Annotates(frozenset(entity_types), frozenset(derived))
    stated, here = _table(table, "annotates", where), f"{where}: [annotates]"
    check_keys(stated, _KEYS["annotates"], here)
    known = tuple(e for e in schema.entities if e in entity_types)
    return Annotates(
        frozenset(_one_of(e, known, "entities", here) for e in _texts(stated, "entities", here)),
        frozenset(
            _one_of(p, derived, "pairs (made by some rule)", here) for p in _texts(stated, "pairs", here)
        ),
    )

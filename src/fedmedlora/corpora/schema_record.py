"""A schema as JSON, the way a manifest holds it: written whole, and read as something from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmedlora.corpora.schema import Definition, Schema, schema_names, shipped_schema


def schema_record(schema: Schema) -> dict[str, Any]:
    """The whole schema as JSON can hold it; ``schema_of_record`` reads it back."""
    return {
        "name": schema.name,
        "entities": list(schema.entities),
        "modifiers": list(schema.modifiers),
        "pairs": list(schema.pair_names()),
        "definitions": {
            one.label: {"long": one.long, "short": one.short}
            for one in schema.definitions
            if one.long or one.short
        },
    }


def schema_of_record(record: Mapping[str, Any], where: str) -> Schema:
    """The schema in ``record``, which may come from anywhere; ``where`` begins every message.

    Lists of texts are taken as checked. A record of a schema of the package may leave the definitions out
    (the first version did): then they are the package's. Raises ``ValueError``.
    """
    name = record["name"]
    given = record.get("definitions")
    if given is None:
        given = schema_record(shipped_schema(name))["definitions"] if name in schema_names() else {}
    if not isinstance(given, dict) or not all(
        isinstance(one, dict) and one.keys() <= {"long", "short"} and _are_texts(one.values())
        for one in given.values()
    ):
        raise ValueError(f"{where}: definitions must map labels to tables of long and short, both texts")
    pairs = []
    for pair in record["pairs"]:
        entity_type, dot, modifier_type = pair.partition(".")
        if not dot:
            raise ValueError(f'{where}: pairs: {pair[:40]!r} is no pair; write "entity.modifier"')
        pairs.append((entity_type, modifier_type))
    # JSON keeps no order worth trusting; equal schemas are to be equal here too.
    known = (*record["entities"], *record["modifiers"])
    ordered = [*dict.fromkeys(label for label in known if label in given)]
    unknown = sorted(given.keys() - set(ordered))
    definitions = tuple(Definition(label, **given[label]) for label in (*ordered, *unknown))
    try:
        schema = Schema(
            name, tuple(record["entities"]), tuple(record["modifiers"]), tuple(pairs), definitions
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if name in schema_names() and schema != shipped_schema(name):
        raise ValueError(
            f"{where}: {name!r} is another schema here than in this version of fedmedlora; use the version "
            "that wrote it, or train again"
        )
    return schema


def _are_texts(values: Any) -> bool:
    return all(isinstance(value, str) for value in values)

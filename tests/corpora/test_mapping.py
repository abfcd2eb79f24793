import dataclasses
from pathlib import Path

import pytest

from fedmedlora.corpora.mapping import (
    identity_mapping,
    load_mapping,
    mapping_names,
    parse_mapping,
    shipped_mapping,
)
from fedmedlora.corpora.raw import RawAttribute, RawEvent, RawNote, RawRelation, RawSpan
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.corpora.to_note import to_note

HEAD = 'format = "fedmedlora-mapping"\nversion = 1\nname = "m"\nreader = "brat"\n'
ENTITY = '[[entity]]\nlabel = "Sign"\ntype = "problem"\n'
RULES = f"""{HEAD}
parts = ["train"]
ignore = ["Age"]
ignore_links = ["AND"]
[words]
scan = '''(?i)\\bscan'''
severe = 'severe'
{ENTITY}
[[entity]]
label = "Proc"
words = "scan"
type = "test"
[[entity]]
label = "Proc"
type = "treatment"
[[modifier]]
label = "Neg"
type = "negation"
[[link]]
relation = "negates"
entity = "Arg2"
[[link]]
relation = "qualifies"
entity = "Arg1"
modifier_label = "Qual"
words = "severe"
type = "severity"
[[link]]
role = "When"
entity = "trigger"
type = "temporal"
[[link]]
entity_role = "Who"
modifier_role = "How"
type = "severity"
"""
#       0123456789012345678901234567890123456789
TEXT = "no severe pain, CT scan, surgery, age 50"
PAIN, SCAN, SURGERY = ((10, 14),), ((16, 23),), ((25, 32),)


def raw(**changes: object) -> RawNote:
    spans = (
        RawSpan("T1", "Sign", PAIN, 1),
        RawSpan("T2", "Proc", SCAN, 2),
        RawSpan("T3", "Proc", SURGERY, 3),
        RawSpan("T4", "Neg", ((0, 2),), 4),
        RawSpan("T5", "Qual", ((3, 9),), 5),
    )
    base = RawNote("n", TEXT, "n.ann", spans)
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def links(note: object) -> set[tuple[str, str]]:
    types = {m.id: m.type for m in (*note.entities, *note.modifiers)}  # type: ignore[attr-defined]
    return {(types[link.entity], types[link.modifier]) for link in note.links}  # type: ignore[attr-defined]


def test_words_decide_between_two_types_of_one_label() -> None:
    note, skipped = to_note(raw(), parse_mapping(RULES, "m.toml"), "n")
    assert [(e.type, e.span) for e in note.entities] == [
        ("problem", PAIN),
        ("test", SCAN),
        ("treatment", SURGERY),
    ]
    # A modifier by its own label stays without a link; one by its relation only does not.
    assert [m.type for m in note.modifiers] == ["negation"]
    assert skipped == {"label Qual: linked to no mapped entity": 1}


def test_relations_make_links_by_direction_label_and_words() -> None:
    relations = (
        RawRelation("negates", "T4", "T1", 6),
        RawRelation("negates", "T1", "T4", 7),  # the wrong way round for its rule
        RawRelation("qualifies", "T1", "T5", 8),
        RawRelation("qualifies", "T1", "T4", 9),  # not a Qual
        RawRelation("qualifies", "T5", "T4", 9),  # no entity
        RawRelation("negates", "T4", "T1", 10),  # again
        RawRelation("AND", "T1", "T2", 11),
    )
    note, skipped = to_note(raw(relations=relations), parse_mapping(RULES, "m.toml"), "n")
    assert links(note) == {("problem", "negation"), ("problem", "severity")}
    assert skipped == {
        "relation negates: no rule for its ends or its words": 1,
        "relation qualifies: no rule for its ends or its words": 1,
        "relation qualifies: link of an unmapped entity": 1,
        "relation AND: ignored": 1,
        "same link again": 1,
    }


def test_events_make_links_by_role_and_between_arguments() -> None:
    spans = (
        RawSpan("T1", "Sign", PAIN, 1),
        RawSpan("T2", "Sign", SURGERY, 2),
        RawSpan("T5", "How", ((3, 9),), 5),
        RawSpan("T6", "Neg", ((0, 2),), 5),
    )
    roles = (("When", "T6"), ("Who", "T1"), ("Who", "T2"), ("How", "T5"))
    events = (RawEvent("Sign", "T1", roles, 6), RawEvent("Sign", "T1", roles[1:], 7))
    note, skipped = to_note(raw(spans=spans, events=events), parse_mapping(RULES, "m.toml"), "n")
    severity = [m.id for m in note.modifiers if m.type == "severity"]
    assert severity == ["T5"]  # shared by two events and two entities, and there once
    assert len(note.links) == 3
    assert links(note) == {("problem", "temporal"), ("problem", "severity")}
    assert skipped == {"same link again": 2}


def test_a_span_may_be_two_modifiers_by_what_it_is_linked_to() -> None:
    text = f"{HEAD}{ENTITY}[[entity]]\nlabel = 'Med'\ntype = 'drug'\n" + "".join(
        f"[[link]]\nrelation = 'time'\nentity = 'Arg1'\nmodifier_label = 'Time'\n"
        f"entities = ['{entity}']\ntype = '{new_type}'\n"
        for entity, new_type in (("drug", "duration"), ("problem", "temporal"))
    )
    spans = tuple(RawSpan(f"T{i}", x, ((i, i + 1),), i) for i, x in enumerate(("Sign", "Med", "Time")))
    relations = (RawRelation("time", "T0", "T2", 3), RawRelation("time", "T1", "T2", 4))
    note, skipped = to_note(raw(spans=spans, relations=relations), parse_mapping(text, "m"), "n")
    assert [(m.id, m.type) for m in note.modifiers] == [("T2", "temporal"), ("T2.duration", "duration")]
    assert links(note) == {("problem", "temporal"), ("drug", "duration")}
    assert not skipped


def test_identity_takes_links_either_way_and_counts_pairs_outside_the_schema() -> None:
    spans = (
        RawSpan("T1", "problem", PAIN, 1),
        RawSpan("T2", "negation", ((0, 2),), 2),
        RawSpan("T3", "route", ((3, 9),), 3),
        RawSpan("T4", "problem", PAIN, 4),
    )
    relations = (RawRelation("x", "T2", "T1", 5), RawRelation("y", "T1", "T3", 6))
    note, skipped = to_note(raw(spans=spans, relations=relations), identity_mapping(), "n")
    assert links(note) == {("problem", "negation")}
    assert [m.type for m in note.modifiers] == ["negation", "route"]
    assert skipped["problem.route: no pair of the schema"] == 1
    assert skipped["same span and type again"] == 1


def test_what_the_reader_lost_is_counted_with_its_links() -> None:
    note = raw(
        skipped={"empty span": 1},
        lost=frozenset({"T9"}),
        relations=(RawRelation("negates", "T4", "T9", 6),),
        attributes=(RawAttribute("P", "T1", "", 7),),
        groups=(("OR", ("T1", "T2")),),
    )
    _, skipped = to_note(note, parse_mapping(RULES, "m.toml"), "n")
    assert skipped == {
        "empty span": 1,
        "relation negates: one end was left out": 1,
        "attribute P: no mapping": 1,
        "group OR: no mapping": 1,
        "label Qual: linked to no mapped entity": 1,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"spans": (RawSpan("T1", "Sgin", PAIN, 7),)},
            r"n\.ann:7: unknown label 'Sgin'\. The nearest known: Sign.*'ignore' list",
        ),
        (
            {"relations": (RawRelation("negate", "T1", "T2", 8),)},
            r"n\.ann:8: unknown relation 'negate'\. The nearest known: negates.*'ignore_links' list",
        ),
        ({"events": (RawEvent("E", "T1", (("Zz", "T2"),), 9),)}, r"n\.ann:9: unknown role 'Zz'"),
    ],
)
def test_unknown_labels_are_errors(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_note(raw(**changes), parse_mapping(RULES, "m.toml"), "n")


def test_parts_and_groups() -> None:
    mapping = parse_mapping(RULES, "m.toml")
    note, _ = to_note(raw(folders=("x", "train", "y"), group="g"), mapping, "n")
    assert (note.meta, note.group) == ({"part": "train"}, "g")
    assert to_note(raw(folders=("x",)), mapping, "n")[0].meta == {}


def test_what_is_annotated_follows_from_the_rules_unless_stated() -> None:
    derived = parse_mapping(RULES, "m").annotates
    assert derived.entities == {"problem", "test", "treatment"}
    assert derived.pairs == {
        *("problem.negation", "test.negation", "treatment.negation"),  # the [[modifier]] rule's
        *("problem.temporal", "test.temporal", "treatment.temporal", "problem.severity"),
    }
    stated = f'{RULES}[annotates]\nentities = ["problem"]\npairs = ["problem.negation"]\n'
    assert parse_mapping(stated, "m").annotates.pairs == {"problem.negation"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "m.toml: not TOML"),
        ("", "must begin with format"),
        (HEAD, r"has no \[\[entity\]\] rule"),
        (HEAD.replace("brat", "brag") + ENTITY, "unknown reader 'brag'; known readers: "),
        (HEAD + "ignored = []\n" + ENTITY, "unknown key 'ignored'; did you mean 'ignore'"),
        (
            HEAD + 'ignore = ["Sign"]\n[[entity]]\nlabel = ["Sign"]\ntype = "problem"\n',
            "'Sign' is in ignore and has",
        ),
        (HEAD + ENTITY.replace("label", "lable"), r"\[\[entity\]\] number 1: unknown key 'lable'"),
        (HEAD + ENTITY.replace("problem", "Problem"), "did you mean 'problem'"),
        (HEAD + ENTITY.replace('"Sign"', "3"), "label is 3; it must be a string or a list"),
        (HEAD + ENTITY + 'words = "x"\n', "words is 'x'; .* defines: none"),
        (HEAD + "[words]\na = '('\n" + ENTITY, "words.a is not a regular expression"),
        (HEAD + ENTITY + "[[link]]\nrelation = 'x'\nentity = 'Arg3'\n", "entity is 'Arg3'"),
        (HEAD + ENTITY + "[[link]]\nrelation = 'x'\nentity = 'Arg1'\n", "give type"),
        (HEAD + ENTITY + "[[link]]\nentity_role = 'x'\n", "together with modifier_role"),
        (
            HEAD
            + ENTITY
            + "[[link]]\nrelation = 'x'\nentity = 'Arg1'\ntype = 'route'\nentities = 'problem'\n",
            "entities for route is 'problem'",
        ),
        (HEAD + ENTITY + "[annotates]\npairs = ['problem.negation']\n", "pairs"),
    ],
)
def test_bad_mappings_name_the_file_and_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_mapping(text, "m.toml")
    assert "m.toml" in str(caught.value)


def test_files(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(RULES)
    assert load_mapping(tmp_path / "m.toml").name == "m"
    with pytest.raises(ValueError, match="no such file"):
        load_mapping(tmp_path / "x.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="byte 0 is not UTF-8"):
        load_mapping(tmp_path / "bad.toml")


@pytest.mark.parametrize("name", mapping_names())
def test_every_shipped_mapping_loads(name: str) -> None:
    mapping = shipped_mapping(name)
    assert mapping.name == name
    assert mapping.annotates.pairs <= set(CLINICAL.pair_names())


def test_an_unknown_corpus_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="chia, i2b2_2010, kiwi_mtsamples"):
        shipped_mapping("../chia")


CONDITIONS = """
format = "fedmedlora-mapping"
version = 1
name = "x"
reader = "brat"
ignore = ["Observation", "Assertion"]
ignore_links = ["Using"]
aliases = ["Condition-Name"]
[[entity]]
label = "Condition"
type = "problem"
[[entity]]
label = "Procedure"
target_of = "Found-By"
type = "test"
[[entity]]
label = "Procedure"
type = "treatment"
[[entity]]
label = "Observation"
attribute = "Kind"
value = ["lab", "vital"]
type = "test"
[[link]]
role = "Asserted"
entity = "argument"
attribute = "Type"
value = "possible"
type = "uncertain"
"""


def test_conditions_on_relations_and_attributes_and_aliases() -> None:
    text = "fever scan graft BMI mood maybe sure"
    spans = {"fever": "Condition", "scan": "Procedure", "graft": "Procedure", "BMI": "Observation",
             "mood": "Observation", "maybe": "Assertion", "sure": "Assertion"}  # fmt: skip
    found = {}
    for word, label in spans.items():
        start = text.index(word)
        found[word] = RawSpan(word, label, ((start, start + len(word)),), 1)
    name = RawSpan("name", "Condition-Name", ((0, 5),), 1)  # stands for the Condition of the same span
    stray = RawSpan("stray", "Condition-Name", ((6, 10),), 1)  # repeats no entity's span of that type
    raw = RawNote(
        name="n", text=text, source="n.ann", spans=(*found.values(), name, stray),
        relations=(RawRelation("Found-By", "fever", "scan", 1), RawRelation("Using", "fever", "graft", 1)),
        events=(
            RawEvent("Assertion", "maybe", (("Asserted", "name"),), 1),
            RawEvent("Assertion", "sure", (("Asserted", "fever"),), 1),
        ),
        attributes=(
            RawAttribute("Kind", "BMI", "lab", 1), RawAttribute("Kind", "mood", "other", 1),
            RawAttribute("Type", "maybe", "possible", 1), RawAttribute("Type", "sure", "present", 1),
            RawAttribute("Else", "BMI", "x", 1),
        ),
    )  # fmt: skip
    note, skipped = to_note(raw, parse_mapping(CONDITIONS, "m.toml"), "n")
    types = {text[e.start : e.end]: e.type for e in note.entities}
    assert types == {"fever": "problem", "scan": "test", "graft": "treatment", "BMI": "test"}
    assert [(m.type, text[m.start : m.end]) for m in note.modifiers] == [("uncertain", "maybe")]
    assert [(link.entity, link.modifier) for link in note.links] == [("fever", "maybe")]
    assert skipped["attribute Else: no mapping"] == 1
    assert "attribute Kind: no mapping" not in skipped


@pytest.mark.parametrize("line", ['attribute = "Kind"', 'value = "lab"', 'attribute = "Kind"\nvalue = []'])
def test_an_attribute_and_its_values_go_together(line: str) -> None:
    text = CONDITIONS.replace('attribute = "Kind"\nvalue = ["lab", "vital"]', line)
    with pytest.raises(ValueError, match="give attribute, the source's name of it, together with value"):
        parse_mapping(text, "m.toml")


def test_a_rule_with_a_condition_may_share_its_label_with_ignore() -> None:
    parse_mapping(CONDITIONS, "m.toml")
    always = CONDITIONS.replace('attribute = "Kind"\nvalue = ["lab", "vital"]', "")
    with pytest.raises(ValueError, match="'Observation' is in ignore and has a rule"):
        parse_mapping(always, "m.toml")

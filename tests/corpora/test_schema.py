import json
import re
from pathlib import Path

import pytest

from fedmedlora.corpora.convert import convert
from fedmedlora.corpora.jsonl import write_notes
from fedmedlora.corpora.load import load_notes, load_predictions, load_texts
from fedmedlora.corpora.mapping import load_mapping, parse_mapping, shipped_mapping
from fedmedlora.corpora.note import Annotates, Entity, Note
from fedmedlora.corpora.schema import (
    CLINICAL,
    MAX_LABELS,
    Definition,
    Schema,
    find_schema,
    load_schema,
    parse_schema,
    schema_names,
    shipped_schema,
)
from fedmedlora.corpora.schema_record import schema_of_record, schema_record

HEAD = 'format = "fedmedlora-schema"\nversion = 1\n'
BIRDS = (
    HEAD + 'name = "birds"\n'
    '[[entity]]\nname = "Song-bird"\nlong = "any bird that sings"\nshort = "singer"\n'
    'modifiers = ["number", "colour"]\n'
    '[[entity]]\nname = "place"\n'
    '[[modifier]]\nname = "colour"\nlong = "its colour"\n'
    '[[modifier]]\nname = "number"\n'
)


def test_a_file_of_ones_own() -> None:
    schema = parse_schema(BIRDS, "birds.toml")
    assert schema == Schema(
        name="birds",
        entities=("Song-bird", "place"),
        modifiers=("colour", "number"),
        pairs=(("Song-bird", "colour"), ("Song-bird", "number")),  # in canonical order, however listed
        definitions=(
            Definition("Song-bird", "any bird that sings", "singer"),
            Definition("colour", "its colour", ""),
        ),
    )
    assert schema.definition("place") == Definition("place", "", "")
    assert parse_schema(BIRDS.replace('"number", "colour"', '"colour", "number"'), "x") == schema
    assert hash(schema) == hash(parse_schema(BIRDS, "elsewhere"))


def test_the_default_is_such_a_file() -> None:
    assert schema_names() == ("clinical",)
    assert CLINICAL == shipped_schema("clinical") == find_schema("clinical")
    assert (len(CLINICAL.entities), len(CLINICAL.modifiers), len(CLINICAL.pairs)) == (4, 16, 22)
    assert all(CLINICAL.definition(label).long for label in (*CLINICAL.entities, *CLINICAL.modifiers))
    with pytest.raises(ValueError, match=r"unknown schema '\.\./x'; known: clinical"):
        shipped_schema("../x")


def label(name: str, more: str = "") -> str:
    return f"[[entity]]\nname = {json.dumps(name)}\n{more}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "s.toml: not TOML"),
        ("a = " + "[" * 100_000, "s.toml: not TOML"),
        (
            'format = "fedmedlora-mapping"\nversion = 1',
            's.toml: must begin with format = "fedmedlora-schema"',
        ),
        (HEAD.replace("1", "2") + 'name = "x"\n' + label("a"), "must begin with .* version = 1"),
        (HEAD + label("a"), "name must be there"),
        (HEAD + "name = 3\n" + label("a"), "name must be there"),
        (HEAD + 'name = "a b"\n' + label("a"), r"the name 'a b' must begin with a letter"),
        (HEAD + 'name = "x"\n', "has no entity type"),
        (HEAD + 'name = "x"\nentities = []\n', "unknown key 'entities'; did you mean 'entity'"),
        (HEAD + 'name = "x"\nentity = 3\n', r"entity must be written as \[\[entity\]\]"),
        (HEAD + 'name = "x"\n[entity]\nname = "a"\n', r"entity must be written as \[\[entity\]\]"),
        (
            HEAD + 'name = "x"\n' + label("a", 'lnog = "x"'),
            "number 1: unknown key 'lnog'; did you mean 'long'",
        ),
        (HEAD + 'name = "x"\n' + label("a", "long = 3"), "number 1: long must be a text"),
        (HEAD + 'name = "x"\n' + label("a", "modifiers = 3"), "modifiers must be a list"),
        (HEAD + 'name = "x"\n' + label("a", "modifiers = [3]"), "modifiers must be a list"),
        (HEAD + 'name = "x"\n[[entity]]\nlong = "x"\n', "number 1: name must be there"),
        (HEAD + 'name = "x"\n' + label("a") + label("a"), "'a' is named twice"),
        (HEAD + 'name = "x"\n' + label("a") + label("A"), "upper and lower case count as the same"),
        (HEAD + 'name = "x"\n' + label("a", 'long = "b\\nc"'), "definition of 'a' must be one line"),
        (HEAD + 'name = "x"\n' + label("a", 'long = "\\u202e"'), "definition of 'a' must be one line"),
        (HEAD + 'name = "x"\n' + label("a", f'long = "{"x" * 401}"'), "at most 400 printable"),
        (HEAD + 'name = "clinical"\n' + label("a"), "is another schema's, which fedmedlora brings"),
        (BIRDS.replace('"colour"]', '"color"]'), r"Song-bird: modifiers: 'color' .*did you mean 'colour'"),
        (BIRDS.replace('"number", "colour"', '"number", "colour", "number"'), "name each once"),
        (BIRDS.replace('modifiers = ["number", "colour"]', ""), "colour: attaches to nothing"),
        (
            BIRDS.replace('name = "place"', 'name = "Colour"'),
            "named twice, as entity type 'Colour' and as mod",
        ),
        (HEAD + 'name = "x"\n' + "".join(map(label, (f"a{i}" for i in range(201)))), "more than 200 labels"),
    ],
)
def test_what_is_wrong_is_told(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        parse_schema(text, "s.toml")
    assert str(error.value).startswith("s.toml: ")
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "1a",
            "a b",
            "a.b",
            "a/b",
            "..",
            "<b>",
            "a>",
            'a"',
            "a&b",
            "é",
            "a" * 41,
            "a\n",
            "-a",
            "{a}",
            "a:b",
        ),
        *("_a", "a\\b", "a%", "a\u200d"),
    ],
)
def test_a_label_is_safe_as_a_tag_and_in_a_file(name: str) -> None:
    with pytest.raises(ValueError, match=r"must begin with a letter|name must be there"):
        parse_schema(HEAD + 'name = "x"\n' + label(name), "s.toml")
    with pytest.raises(ValueError, match="must begin with a letter"):
        Schema("x", ("a",), (name,), (("a", name),))
    with pytest.raises(ValueError, match="must begin with a letter"):
        Schema(name, ("a",), (), ())


def test_files(tmp_path: Path) -> None:
    (tmp_path / "birds.toml").write_bytes(b"\xef\xbb\xbf" + BIRDS.replace("\n", "\r\n").encode())
    assert load_schema(tmp_path / "birds.toml") == find_schema("birds.toml", tmp_path)
    with pytest.raises(ValueError, match=r"absent\.toml: there is no such file; .* names clinical"):
        find_schema("absent.toml", tmp_path)
    with pytest.raises(ValueError, match="cannot be read as a schema"):
        load_schema(tmp_path)
    (tmp_path / "latin.toml").write_bytes(BIRDS.replace("sings", "s\u00e4nge").encode("latin-1"))
    with pytest.raises(ValueError, match="is not UTF-8"):
        load_schema(tmp_path / "latin.toml")
    (tmp_path / "big.toml").write_text("#" * 1_000_001)
    with pytest.raises(ValueError, match="which no schema is"):
        load_schema(tmp_path / "big.toml")


def test_as_json_and_back() -> None:
    for schema in (CLINICAL, parse_schema(BIRDS, "b"), Schema("x", ("a",), (), ())):
        record = json.loads(json.dumps(schema_record(schema), sort_keys=True))
        assert schema_of_record(record, "m") == schema
    old = {key: value for key, value in schema_record(CLINICAL).items() if key != "definitions"}
    assert schema_of_record(old, "m") == CLINICAL
    assert schema_of_record({**old, "name": "x"}, "m").definitions == ()
    many = Schema("x", tuple(f"e{i}" for i in range(MAX_LABELS)), (), ())
    assert schema_of_record(schema_record(many), "m") == many


# --- notes, mappings ---------------------------------------------------------------------------------

NOTE = Note(
    "n1",
    "Two wrens in the hedge.",
    (Entity("E1", "Song-bird", ((4, 9),)),),
    (Entity("M1", "number", ((0, 3),)),),
    (),
    Annotates(frozenset({"Song-bird"}), frozenset({"Song-bird.number"})),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "birds.toml").write_text(BIRDS, encoding="utf-8")
    header = {"name": "garden", "schema": "birds"}
    write_notes(tmp_path / "garden.jsonl", [NOTE], header=header)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "n1.txt").write_text("Two wrens in the hedge.", encoding="utf-8")
    (tmp_path / "notes" / "n1.ann").write_text(
        "T1\tVogel 4 9\twrens\nT2\tZahl 0 3\tTwo\nR1\thas Arg1:T1 Arg2:T2\n", encoding="utf-8"
    )
    (tmp_path / "m.toml").write_text(MAPPING, encoding="utf-8")
    return tmp_path


MAPPING = (
    'format = "fedmedlora-mapping"\nversion = 1\nname = "m"\nreader = "brat"\nschema = "birds.toml"\n'
    '[[entity]]\nlabel = "Vogel"\ntype = "Song-bird"\n'
    '[[link]]\nrelation = "has"\nentity = "Arg1"\nmodifier_label = "Zahl"\ntype = "number"\n'
)


def test_notes_name_their_schema(folder: Path) -> None:
    birds = load_schema(folder / "birds.toml")
    for load in (load_notes, load_predictions):
        assert load(folder / "garden.jsonl", birds).notes == (NOTE,)
        with pytest.raises(
            ValueError, match="the notes are in the schema 'birds', and they are read here in"
        ):
            load(folder / "garden.jsonl")
    assert load_texts(folder / "garden.jsonl")[0].text == NOTE.text, "a text has no schema"
    write_notes(folder / "no.jsonl", [NOTE], header={"name": "garden"})
    with pytest.raises(ValueError, match="absent, it means 'clinical'"):
        load_notes(folder / "no.jsonl", birds)


def test_a_note_file_names_no_file(folder: Path) -> None:
    """The header's schema is compared with a name; no path in it is ever opened."""
    write_notes(folder / "x.jsonl", [NOTE], header={"name": "x", "schema": str(folder / "birds.toml")})
    with pytest.raises(ValueError, match="the notes are in the schema"):
        load_notes(folder / "x.jsonl", load_schema(folder / "birds.toml"))


def test_a_mapping_names_the_schema_beside_it(folder: Path) -> None:
    birds = load_schema(folder / "birds.toml")
    mapping = load_mapping(folder / "m.toml")
    assert mapping.schema == birds
    found = convert("brat", folder / "notes", mapping=mapping)
    assert found.header["schema"] == "birds"
    assert [(e.type, e.span) for e in found.notes[0].entities] == [("Song-bird", ((4, 9),))]
    assert [(m.type, m.span) for m in found.notes[0].modifiers] == [("number", ((0, 3),))]
    assert load_mapping(folder / "m.toml", birds).schema == birds
    with pytest.raises(ValueError, match="leads to 'birds', and asked for is 'clinical'"):
        load_mapping(folder / "m.toml", CLINICAL)
    without = MAPPING.replace('schema = "birds.toml"\n', "")
    assert parse_mapping(without, "m.toml", birds).schema == birds
    with pytest.raises(ValueError, match="type is 'Song-bird'"):
        parse_mapping(without, "m.toml")
    with pytest.raises(ValueError, match=r"unknown schema 'birds\.toml'"):
        parse_mapping(MAPPING, "m.toml")  # from nowhere, so nothing lies beside it
    named = (
        MAPPING.replace('"birds.toml"', '"clinical"')
        .replace("Song-bird", "drug")
        .replace('type = "number"', 'type = "dosage"')
    )
    assert parse_mapping(named, "m.toml").schema == CLINICAL


def test_labels_that_are_the_schemas_already_need_no_mapping(folder: Path) -> None:
    birds = load_schema(folder / "birds.toml")
    ann = (folder / "notes" / "n1.ann").read_text().replace("Vogel", "Song-bird").replace("Zahl", "number")
    (folder / "notes" / "n1.ann").write_text(ann)
    found = convert("brat", folder / "notes", schema=birds)
    assert len(found.notes[0].links) == 1
    assert found.header["schema"] == "birds"
    with pytest.raises(ValueError, match="unknown label"):
        convert("brat", folder / "notes")
    with pytest.raises(ValueError, match="leads to the schema 'clinical', not to 'birds'"):
        convert("chia", folder / "notes", schema=birds)
    assert shipped_mapping("chia", CLINICAL).schema == CLINICAL


def test_the_command_line_takes_it_everywhere(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fedmedlora.cli import main

    birds, notes = str(folder / "birds.toml"), str(folder / "garden.jsonl")

    def ask(*words: str, code: int = 0) -> str:
        assert main(list(words)) == code
        told = capsys.readouterr()
        return told.err if code else told.out

    out = str(folder / "converted.jsonl")
    ask(
        "corpora",
        "convert",
        "--reader",
        "brat",
        "--mapping",
        str(folder / "m.toml"),
        str(folder / "notes"),
        out,
    )
    assert "Song-bird.number" in ask("corpora", "stats", out, "--schema", birds)
    assert "name the file of their schema" in ask("corpora", "stats", out, code=2)
    ask("corpora", "split", out, "--out", str(folder / "parts"), "--parts", "all=1", "--schema", birds)
    assert "1.000" in ask("evaluate", out, out, "--schema", birds)
    assert "they are read here in 'clinical'" in ask("evaluate", out, out, code=2)
    assert "there is no such file" in ask("evaluate", out, notes, "--schema", str(folder / "none"), code=2)

    told = ask("init", str(folder / "notes"), "--out", str(folder / "first"), "--schema", birds)
    assert re.search(r"corpora split .* --schema \S*birds\.toml", told)
    text = (folder / "first" / "mapping.toml").read_text()
    assert 'schema = "../birds.toml"' in text
    assert "# Entity types: Song-bird, place." in text
    study = (folder / "first" / "study.toml").read_text()
    assert 'schema = "../birds.toml"' in study
    from fedmedlora.study import parse_study

    assert parse_study(study, folder=folder / "first")[0].schema() == load_schema(birds)

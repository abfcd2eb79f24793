"""The pages hold what they promise: links lead somewhere, TOML parses, commands exist."""

import json
import re
import runpy
import shlex
import tomllib
from pathlib import Path

import pytest

from fedmedlora.cli import parser
from fedmedlora.corpora.convert import convert
from fedmedlora.corpora.formats import load_reader
from fedmedlora.corpora.instructions import read_instructions
from fedmedlora.corpora.jsonl import read_notes
from fedmedlora.corpora.mapping import load_mapping, parse_mapping
from fedmedlora.corpora.schema import parse_schema
from fedmedlora.flower.site_file import SiteFile
from fedmedlora.provision.consortium import Consortium
from fedmedlora.settings import read_table
from fedmedlora.study import parse_study
from fedmedlora.study_runs import runs_of

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("**/*.md")),
    *sorted((ROOT / "studies").glob("*.md")),
]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

# What a fragment of a study file needs around it to be a whole one.
NAME = 'name = "x"\n'
SITE = '[[sites]]\nname = "x"\ntrain = "x.jsonl"\n'
VALIDATION = '[validation]\nnotes = ["v.jsonl"]\n'
MAPPING = 'format = "fedmedlora-mapping"\nversion = 1\nname = "x"\nreader = "brat"\n'
ENTITIES = "".join(f'[[entity]]\nlabel = "x-{t}"\ntype = "{t}"\n' for t in ("problem", "drug", "test"))


def blocks(text: str, kind: str) -> list[str]:
    """Fenced blocks of one kind ("" for those without), in order."""
    return [body for found, body in FENCE.findall(text) if found == kind]


def anchors(text: str) -> set[str]:
    """The anchors that a reader of Markdown gives the headings."""
    titles = HEADING.findall(FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: Path, text: str) -> list[str]:
    """Links of ``text``, as it stands in ``page``, that lead to no file or to no heading of it."""
    broken = []
    for link in LINK.findall(FENCE.sub("", text)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve()
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        if path and not (target.exists() and target.is_relative_to(ROOT)):
            broken.append(link)
            continue
        there = target.read_text(encoding="utf-8") if path and anchor else text
        if anchor and anchor not in anchors(there):
            broken.append(link)
    return broken


def check_toml(text: str, folder: Path | None = None) -> None:
    """Parse a block as what it is: a mapping, a schema or a study, whole or a fragment of one.

    ``folder``: where the schemas lie that a mapping may name.
    """
    table = tomllib.loads(text)
    if table.get("format") == "fedmedlora-mapping":
        parse_mapping(text, "the page", folder=folder)
    elif table.get("format") == "fedmedlora-schema":
        parse_schema(text, "the page")
    elif table.keys() & {"entity", "modifier", "link", "annotates", "ignore", "ignore_links", "words"}:
        parse_mapping(text if "format" in table else MAPPING + text + ENTITIES, "the page")
    elif "coordinator" in table and "sites" in table:
        read_table(Consortium, table, "the page:")
    elif table.keys() & {"train", "allows", "coordinator"}:
        read_table(SiteFile, {"name": "x", "train": "x.jsonl", **table}, "the page:")
    elif "superlink" in table:
        pass  # Flower's own configuration
    else:
        whole = {"name", "sites"} <= table.keys()
        around = "" if whole or "validation" in table else VALIDATION
        around += "" if "sites" in table else SITE
        here = table.get("validation", {}).get("by") != "sites"
        here = here and not (whole and all(site.keys() == {"name"} for site in table["sites"]))
        parse_study(("" if "name" in table else NAME) + text + around, source="the page", sites_are_here=here)


def commands(text: str) -> list[list[str]]:
    """Arguments of every ``fedmedlora`` command in the fenced blocks of a page."""
    lines = "\n".join(blocks(text, "") + blocks(text, "bash") + blocks(text, "sh") + blocks(text, "console"))
    found = []
    for line in lines.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True) if "fedmedlora" in line else []
        if words and words[0] in ("fedmedlora", ".venv/bin/fedmedlora"):
            found.append(words[1:])
    return found


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_toml_parses(page, tmp_path):
    found = blocks(page.read_text(encoding="utf-8"), "toml")
    for block in found:
        table = tomllib.loads(block)
        if table.get("format") == "fedmedlora-schema":
            (tmp_path / f"{table['name']}.toml").write_text(block, encoding="utf-8")
    for block in found:
        check_toml(block, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_exist(page, capsys):
    for arguments in commands(page.read_text(encoding="utf-8")):
        code = 0
        try:
            parser().parse_args(arguments)
        except SystemExit as end:
            code = end.code
        assert code == 0, f"fedmedlora {shlex.join(arguments)}: {capsys.readouterr().err}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_make_targets_exist(page):
    text = page.read_text(encoding="utf-8")
    shown = re.findall(r"^make ((?:[A-Z]+=\S+ )*)([a-z]+)", "\n".join(blocks(text, "")), re.MULTILINE)
    inline = re.findall(r"`make\s+((?:[A-Z]+=\S+\s+)*)([a-z]+)`", FENCE.sub("", text))
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {target for _, target in shown + inline} <= set(targets)


def test_the_readme_shows_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(commands(readme)) >= 4
    assert "make demo\nmake test\n" in blocks(readme, "")


def test_the_map_of_the_readme_is_the_tree():
    (drawn,) = [b for b in blocks((ROOT / "README.md").read_text(encoding="utf-8"), "") if "rounds.py" in b]
    folder, missing = ROOT, []
    for line in drawn.splitlines():
        inside, name = line.startswith("  "), line.split()[0]
        if not inside and len(line.split()) == 1:
            folder = ROOT / name
        if not ((folder if inside else ROOT) / name).exists():
            missing.append(name)
    assert missing == []


def test_the_index_lists_every_page():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert pages == {link.partition("#")[0] for link in LINK.findall(index) if "/" not in link}


def test_the_example_of_formats_becomes_what_the_page_says(tmp_path):
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    text, annotation, iob = blocks(page, "text")
    (mapping,) = blocks(page, "toml")
    (lines,) = blocks(page, "json")
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "visit-1.txt").write_text(text, encoding="utf-8")
    (notes / "visit-1.ann").write_text(annotation, encoding="utf-8")
    (tmp_path / "mapping.toml").write_text(mapping, encoding="utf-8")
    # The page breaks lines up; an object ends where the next begins at the margin.
    records = [json.loads(record) for record in re.split(r"\n(?=\{)", lines)]
    jsonl = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / "notes.jsonl").write_text(jsonl, encoding="utf-8")

    found = convert("brat", notes, mapping=load_mapping(tmp_path / "mapping.toml"))
    expected = read_notes(tmp_path / "notes.jsonl")
    assert found.notes == expected.notes
    shared = ("name", "schema", "synthetic", "annotates", "skipped")
    assert {key: found.header[key] for key in shared} == {key: expected.header[key] for key in shared}

    (tmp_path / "a.iob").write_text(iob, encoding="utf-8")
    (note,) = load_reader("iob")(tmp_path / "a.iob")
    assert (note.name, note.text) == ("visit-1", "Denies chest pain .")
    assert [(s.label, note.text[slice(*s.span[0])]) for s in note.spans] == [
        ("Negator", "Denies"),
        ("Symptom", "chest pain"),
    ]


def test_a_broken_link_is_noticed():
    page = ROOT / "docs" / "x.md"
    text = "# A title, here\n[a](formats.md) [b](#a-title-here) [c](formats.md#brat) [d](https://x.org)\n"
    assert broken_links(page, text) == []
    bad = "[a](absent.md) ![b](absent.png) [c](#absent) [d](formats.md#absent) [e](../../outside.md)"
    assert broken_links(page, bad) == LINK.findall(bad)
    assert len(broken_links(page, bad)) == 5


@pytest.mark.parametrize(
    "text",
    [
        "[training]\nround = 3\n",
        '[[sites]]\nname = "a"\n',
        'methods = ["fed_avg"]\n',
        '[[link]]\nrelation = "R"\nentity = "Arg3"\ntype = "negation"\n',
        '[[entity]]\nlabel = "A"\ntype = "disease"\n',
        "name = \n",
    ],
)
def test_toml_that_would_be_refused_is_noticed(text):
    with pytest.raises(ValueError, match=r"."):
        check_toml(text)


@pytest.mark.parametrize(
    "text",
    [
        "[training]\nrounds = 3\n",
        'methods = ["fed_medlora_plus"]\n',
        '[[link]]\nrelation = "R"\nentity = "Arg1"\ntype = "negation"\n',
        '[[entity]]\nlabel = "A"\ntype = "problem"\n',
    ],
)
def test_a_fragment_is_taken_as_one(text):
    check_toml(text)


def test_commands_are_found():
    page = "```\n$ fedmedlora run a.toml \\\n  --out b   # why\nls\n```\n"
    page += "```bash\n.venv/bin/fedmedlora report b\n```\nfedmedlora is a word\n"
    assert commands(page) == [["run", "a.toml", "--out", "b"], ["report", "b"]]


def test_the_example_of_instruction_data_is_read(tmp_path):
    page = (ROOT / "docs" / "instruction-data.md").read_text(encoding="utf-8")
    (lines,) = blocks(page, "json")
    records = [json.loads(record) for record in re.split(r"\n(?=\{)", lines)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    found = read_instructions(tmp_path / "a.jsonl").notes
    assert [(n.id, n.group, n.meta["response"]) for n in found] == [
        ("q1", "patient-7", "no"),
        ("q2", "patient-8", "yes"),
    ]


def test_the_python_of_the_page_on_simulated_federations_runs(tmp_path):
    (block,) = blocks((ROOT / "docs" / "federations.md").read_text(encoding="utf-8"), "python")
    (tmp_path / "page.py").write_text(block, encoding="utf-8")
    assert len(runpy.run_path(str(tmp_path / "page.py"))["sites"]) == 4


@pytest.mark.parametrize("file", sorted((ROOT / "studies").glob("*.toml")), ids=lambda file: file.stem)
def test_the_studies_parse_and_their_arms_change_something(file, tmp_path):
    study, notices = parse_study(file.read_text(encoding="utf-8"), source=file.name, folder=tmp_path)
    assert notices == ()
    for _, path in study.files():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    runs = runs_of(study)
    of_arms = [arm.seeds or study.seeds for arm in study.arms]
    assert len(runs) == sum(map(len, (study.seeds, *of_arms)))
    assert len({run.study.study_hash() for run in runs}) == len(runs)

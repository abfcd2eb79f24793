"""``fedmedlora init``, and the page that goes from two BRAT folders to a first F1, command by command."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from fedmedlora.cli import main
from fedmedlora.corpora.jsonl import read_notes
from fedmedlora.corpora.mapping import load_mapping
from fedmedlora.corpora.synthetic import synthesize
from fedmedlora.corpora.writers.brat import write_brat
from fedmedlora.init import write_first_study
from fedmedlora.report.results import validate
from fedmedlora.study import parse_study

PAGE = Path(__file__).parents[1] / "docs" / "first-study.md"


def blocks(kind: str) -> list[str]:
    page = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def run_python(block: str, tmp_path: Path) -> None:
    """Run a block of the page as a reader would."""
    import runpy

    script = tmp_path / "block.py"
    script.write_text(block, encoding="utf-8")
    runpy.run_path(str(script))


def put_in_tiny_model(study: Path, model: Path) -> None:
    """The page's study with a model, and a length, that a test has time for."""
    shutil.copytree(model, study.parent / "model")
    text = study.read_text(encoding="utf-8")
    for old, new in (
        ('name = "smollm2-135m"', 'name = "model"'),
        ("rounds = 3", "rounds = 2"),
        ("steps_per_round = 5", "steps_per_round = 1\nexamples_per_step = 4\nmax_train_examples = 12"),
        ("max_sentences = 60", "max_sentences = 2\nzero_shot_free = false"),
        ('prompts = "short"', 'prompts = "short"\nmax_tokens = 4000'),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    study.write_text(text, encoding="utf-8")


def test_the_page_from_two_brat_folders_to_a_first_f1(tmp_path, monkeypatch, capsys, model_folders):
    monkeypatch.chdir(tmp_path)
    make_notes, read_results = blocks("python")
    commands = [line for block in blocks("bash") for line in block.splitlines()]
    run_python(make_notes, tmp_path)
    before = {p: p.read_bytes() for folder in ("mercy", "county") for p in Path(folder).rglob("*")}
    assert len(before) == 80

    done = []
    for command in commands:
        program, *argv = shlex.split(command)
        assert program == "fedmedlora"
        if argv[0] == "run" and "run" not in done:
            put_in_tiny_model(Path("first-study/study.toml"), model_folders["llama"])
        # The name of a folder is no name that a model can be found by elsewhere, so the test says where.
        here = ["--model", "first-study/model"] if argv[0] == "extract" else []
        assert main([*argv, *here]) == 0, command
        said = capsys.readouterr().out
        done.append(" ".join(argv[:2]) if argv[0] == "corpora" else argv[0])
        if argv[0] == "init":
            assert said == blocks("text")[0]
            # What is printed is what the page goes on with.
            printed = [line.strip() for line in said.splitlines() if line.startswith("  fedmedlora")]
            assert [c for c in commands if c in printed] == printed
            mapping = Path("first-study/mapping.toml").read_text(encoding="utf-8")
            assert all(rule in re.sub(r"\]\]  #.*", "]]", mapping) for rule in rules())
    assert done[0] == "init"
    assert done.count("corpora convert") == done.count("corpora split") == done.count("run") == 2
    assert "extract" in done

    results = json.loads(Path("first-study/run/results.json").read_text(encoding="utf-8"))
    validate(results)
    assert [m["name"] for m in results["methods"]] == [
        *("zero_shot", "single_site:mercy", "single_site:county", "fed_medlora")
    ]
    for method in results["methods"]:
        assert {e["cohort"] for e in method["evaluations"]} == {"mercy", "county"}
        for evaluation in method["evaluations"]:
            strict = evaluation["scores"]["entities"]["strict"]
            assert strict["tp"] + strict["fn"] > 0
            assert 0 <= strict["f1"] <= 1
    run_python(read_results, tmp_path)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 8
    assert all(re.search(r"(mercy|county) constrained [01]\.\d+$", line) for line in printed)
    # The users' own folders are as they were.
    assert before == {p: p.read_bytes() for folder in ("mercy", "county") for p in Path(folder).rglob("*")}
    assert Path("page.html").read_text(encoding="utf-8").count("<h2>") == 20


def rules() -> list[str]:
    """The rules of the mapping that the page shows."""
    (block,) = blocks("toml")
    return [rule.strip() for rule in block.split("\n\n")]


def test_foreign_labels_become_the_schemas(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_python(blocks("python")[0], tmp_path)
    found, _ = write_first_study([Path("mercy"), Path("county")], Path("out"))
    assert found.guesses["Disease"] == "problem"
    assert found.guesses["condition"] == "condition"  # the schema's own name
    convert = ["corpora", "convert", "--reader", "brat", "--mapping", "out/mapping.toml"]
    assert main([*convert, "mercy", "m.jsonl"]) == 0
    # Labels renamed and relations turned round, and back again: the very same annotations.
    for note, again in zip(
        synthesize("lakeside", 20, seed=1, part="train"), read_notes("m.jsonl").notes, strict=True
    ):
        assert (note.id, note.text) == (again.id, again.text)
        assert {(e.type, e.span) for e in note.entities} == {(e.type, e.span) for e in again.entities}
        assert {(m.type, m.span) for m in note.modifiers} == {(m.type, m.span) for m in again.modifiers}
        assert len(note.links) == len(again.links)


def brat_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "n.txt").write_text("No fever.\n", encoding="utf-8")
    (path / "n.ann").write_text("T1\tDisease 3 8\tfever\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("num_notes", [2, 3, 4, 5, 7])
def test_what_is_printed_for_few_notes_works(tmp_path, monkeypatch, capsys, num_notes):
    monkeypatch.chdir(tmp_path)
    folder = brat_folder(tmp_path / "mercy")
    for number in range(1, num_notes):
        (folder / f"n{number}.txt").write_text(f"No fever on day {number}.\n", encoding="utf-8")
        (folder / f"n{number}.ann").write_text("T1\tDisease 3 8\tfever\n", encoding="utf-8")
    assert main(["init", "mercy"]) == 0
    said = capsys.readouterr()
    assert "cannot be both" not in said.err
    commands = [shlex.split(line)[1:] for line in said.out.splitlines() if line.startswith("  fedmedlora")]
    assert [command[:2] for command in commands[:2]] == [["corpora", "convert"], ["corpora", "split"]]
    for command in commands[:2]:
        assert main(command) == 0
    parts = [read_notes(tmp_path / "sites" / "mercy" / f"{part}.jsonl").notes for part in ("train", "test")]
    assert [len(part) for part in parts] == [num_notes - 1, 1]


def test_one_note_cannot_be_split_and_it_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    brat_folder(tmp_path / "mercy")
    assert main(["init", "mercy"]) == 0
    assert "mercy: one note cannot be both trained on and tested on" in capsys.readouterr().err


def test_the_study_file_is_one_and_the_mapping_loads(tmp_path):
    brat_folder(tmp_path / "mercy")
    write_first_study([tmp_path / "mercy"], tmp_path / "out")
    study, notices = parse_study((tmp_path / "out" / "study.toml").read_text(encoding="utf-8"))
    assert notices == ()
    assert [site.name for site in study.sites] == ["mercy"]
    assert load_mapping(tmp_path / "out" / "mapping.toml").reader == "brat"


@pytest.mark.parametrize(
    "names",
    [
        ("Mercy", "mercy"),  # one name where case does not count
        ("a b", "a-b"),
        ("site 'one'; rm -rf", "Größe"),
        ("-x", "..y"),
        ("x" * 90, "x" * 91),
        ("a/notes", "b/notes"),
    ],
    ids=str,
)
def test_odd_folder_names_give_sites_that_a_study_takes(names, tmp_path):
    folders = [brat_folder(tmp_path / "in" / f"{i}" / name) for i, name in enumerate(names)]
    _, commands = write_first_study(folders, tmp_path / "out")
    study, _ = parse_study((tmp_path / "out" / "study.toml").read_text(encoding="utf-8"))
    assert len(study.sites) == 2
    converting = [shlex.split(command) for command in commands if " convert " in command]
    assert [Path(words[-2]) for words in converting] == folders  # quoted for the shell
    for words in converting:
        assert main(words[1:]) == 0
    assert sorted(p.name for p in (tmp_path / "out" / "sites").iterdir()) == sorted(
        f"{site.name}.jsonl" for site in study.sites
    )


def test_a_user_folder_of_the_same_name_is_left_alone(tmp_path, monkeypatch):
    """``init mercy`` without ``--out``: nothing is written into the folder ``mercy``."""
    monkeypatch.chdir(tmp_path)
    write_brat(synthesize("lakeside", 5, seed=1, part="train"), Path("mercy"))
    before = {p: p.read_bytes() for p in Path("mercy").iterdir()}
    _, commands = write_first_study([Path("mercy")], Path())
    for command in commands[:2]:
        assert main(shlex.split(command)[1:]) == 0
    assert {p: p.read_bytes() for p in Path("mercy").iterdir()} == before
    assert Path("sites/mercy/train.jsonl").exists()


@pytest.mark.parametrize("there", ["mapping.toml", "study.toml"])
def test_files_that_are_there_are_not_overwritten(there, tmp_path, capsys):
    brat_folder(tmp_path / "mercy")
    (tmp_path / there).write_text("mine", encoding="utf-8")
    assert main(["init", str(tmp_path / "mercy"), "--out", str(tmp_path)]) == 2
    assert there in capsys.readouterr().err
    assert (tmp_path / there).read_text(encoding="utf-8") == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["mercy", there])


def test_one_folder_twice_is_refused(tmp_path, capsys):
    folder = str(brat_folder(tmp_path / "mercy"))
    assert main(["init", folder, folder, "--out", str(tmp_path / "out")]) == 2
    assert "given twice" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_without_annotations_is_a_start_too(tmp_path, capsys):
    """No label, no guess: the files are written, and converting says what is missing."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "n.txt").write_text("Well.\n", encoding="utf-8")
    assert main(["init", str(tmp_path / "bare"), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "1 notes, 0 with annotations" in printed
    convert = shlex.split(next(line for line in printed.splitlines() if " convert " in line))
    assert main(convert[1:]) == 2
    assert "[[entity]]" in capsys.readouterr().err


def test_another_format(tmp_path, monkeypatch, capsys):
    from fedmedlora.corpora.writers import load_writer

    monkeypatch.chdir(tmp_path)
    for site, seed in (("mercy", 1), ("county", 2)):
        Path(site).mkdir()
        notes = synthesize("lakeside", 8, seed=seed, part="train")
        load_writer("bioc_xml")(notes, Path(site) / "notes.xml")
    assert main(["init", "mercy", "county", "--reader", "bioc_xml", "--out", "study"]) == 0
    shown = capsys.readouterr().out
    mapping = load_mapping(Path("study/mapping.toml"))
    assert mapping.reader == "bioc_xml"
    commands = [
        shlex.split(line.strip())[1:] for line in shown.splitlines() if line.startswith("  fedmedlora")
    ]
    for command in commands[:-1]:
        assert main(command) == 0, command
    assert Path("study/sites/county/test.jsonl").exists()
    assert main(["init", "mercy", "--reader", "excel", "--out", "other"]) == 2
    assert "known readers: bioc_json" in capsys.readouterr().err
    assert main(["init", "mercy", "--reader", "iob", "--out", "other"]) == 2
    assert "holds no note that the reader 'iob' can see" in capsys.readouterr().err

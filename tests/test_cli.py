"""The command line as other programs use it: what is on stdout, what is on stderr, which exit code."""

# Longer than 400 lines: one contract, command by command, over one tiny run.

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from interruptible import PROGRAM
from made_up_run import make_results

from fedmedlora.cli import main
from fedmedlora.corpora.jsonl import read_notes, write_notes
from fedmedlora.corpora.load import load_notes
from fedmedlora.corpora.note import Annotates, Entity, Link, Note
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.report.results import read_results, validate, write_results

CORPORA = Path(os.environ.get("FEDMEDLORA_CORPORA", Path(__file__).parents[2] / "shared" / "corpora"))
SIX = {"tp", "fp", "fn", "precision", "recall", "f1"}


def call(capsys, *argv: object) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of the command in this process."""
    capsys.readouterr()
    code = main([str(word) for word in argv])
    said = capsys.readouterr()
    return code, said.out, said.err


def one_line(out: str) -> object:
    """What stdout holds, which must be one line of JSON and nothing else."""
    assert out.endswith("\n")
    assert out.count("\n") == 1
    return json.loads(out)


def program(*argv: object, **more) -> subprocess.Popen:
    """The command as a process of its own."""
    command = [sys.executable, "-c", PROGRAM, *map(str, argv)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # Tiny models: threads would only wait for each other.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONUNBUFFERED", None)  # a user's stdout is buffered, and is flushed at the end
    return subprocess.Popen(command, env=environment, **{**pipes, **more})


# --- help -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [[], *([w] for w in ("demo", "run", "extract", "evaluate", "report", "init", "show", "corpora", "audit"))]
    + [["watch"], ["export"]]
    + [["corpora", w] for w in ("list", "convert", "stats", "split", "synthesize")]
    + [["provision"], *(["site", w] for w in ("keygen", "check", "start"))]
    + [["coordinator", w] for w in ("start", "stop", "status")]
    + [["audit", w] for w in ("verify", "show", "passport")],
    ids=" ".join,
)
def test_every_command_has_help(words, capsys):
    with pytest.raises(SystemExit) as done:
        main([*words, "--help"])
    assert done.value.code == 0
    assert "usage: fedmedlora" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["extract"],
        ["report"],
        ["watch"],
        ["export"],
        ["corpora", "split"],
        ["provision"],
        ["site", "check"],
        ["audit", "passport"],
    ],
    ids=" ".join,
)
def test_help_says_what_goes_in_what_comes_out_and_gives_an_example(words, capsys):
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    said = capsys.readouterr().out
    assert re.search(r"^In: +\w.*\n(.+\n)*Out: +\w", said, re.M)
    (example,) = re.findall(r"^example:\n  fedmedlora (.*)$", said, re.M)
    from fedmedlora.cli import parser

    args = parser().parse_args(example.split())  # it is a command
    assert args.run is not None


def test_help_is_fast_and_loads_no_model_library():
    look = (
        "import sys\n"
        "from fedmedlora.cli import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'flwr', 'transformers', 'peft', 'numpy') if m in sys.modules],"
        " file=sys.stderr)"
    )
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=60)
    seconds = time.perf_counter() - began
    assert (done.returncode, done.stderr) == (0, "[]\n")
    assert "COMMAND" in done.stdout
    assert seconds < 5  # 0.1 s where nothing else runs; torch alone takes several


@pytest.mark.parametrize(
    "argv",
    [["nonsense"], ["run"], [], ["corpora"], ["extract", "x.txt", "--adapter", "a", "--format", "pdf"]],
)
def test_a_wrong_command_line_is_exit_2(argv, capsys):
    with pytest.raises(SystemExit) as done:
        main(argv)
    assert done.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "usage" in said.err


# --- corpora --------------------------------------------------------------------------------------------


def test_list_names_every_corpus_and_hospital(capsys):
    code, out, _ = call(capsys, "corpora", "list", "--json")
    rows = one_line(out)
    assert code == 0
    names = {row["name"] for row in rows}
    assert {"chia", "kiwi_mtsamples", "maccrobat2020", "phee", "lakeside", "stonebridge"} <= names
    for row in rows:
        assert set(row["annotates"]) == {"entities", "pairs"}
    code, out, _ = call(capsys, "corpora", "list")
    assert code == 0
    assert all(name in out for name in names)


def test_synthesize_then_stats(tmp_path, capsys):
    out_file = tmp_path / "notes.jsonl"
    code, _, _ = call(capsys, "corpora", "synthesize", "lakeside", 3, out_file, "--seed", 5)
    assert code == 0
    code, out, err = call(capsys, "corpora", "stats", out_file, "--json")
    found = one_line(out)
    assert (code, err) == (0, "")
    assert list(found) == ["num_notes", "entities", "modifiers", "links", "skipped"]
    assert found["num_notes"] == 3
    assert set(found["entities"]) == set(CLINICAL.entities)
    assert set(found["modifiers"]) == set(CLINICAL.modifiers)
    assert set(found["links"]) == set(CLINICAL.pair_names())
    assert found["skipped"] == {}
    assert sum(found["entities"].values()) == sum(len(n.entities) for n in read_notes(out_file).notes) > 0
    assert read_notes(out_file).header["synthetic"] is True
    call(capsys, "corpora", "synthesize", "lakeside", 3, tmp_path / "again.jsonl", "--seed", 5)
    assert (tmp_path / "again.jsonl").read_bytes() == out_file.read_bytes()


FOREIGN = {
    "a.txt": "No fever today.\n",
    "a.ann": "T1\tDisease 3 8\tfever\nT2\tNegated 0 2\tNo\n"
    "T3\tOdd 9 14\ttoday\nR1\tModifies Arg1:T2 Arg2:T1\n",
    "b.txt": "Well.\n",
    "b.ann": "",
}
MAPPING = """\
format = "fedmedlora-mapping"
version = 1
name = "mine"
reader = "brat"
ignore = ["Odd"]
[[entity]]
label = ["Disease"]
type = "problem"
[[modifier]]
label = ["Negated"]
type = "negation"
[[link]]
relation = ["Modifies"]
entity = "Arg2"
"""


@pytest.fixture
def foreign(tmp_path):
    """A BRAT folder in its own labels, and a mapping for it."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    for name, text in FOREIGN.items():
        (folder / name).write_text(text, encoding="utf-8")
    (tmp_path / "my.toml").write_text(MAPPING, encoding="utf-8")
    return folder


def test_convert_somebody_elses_corpus(foreign, tmp_path, capsys):
    out_file = tmp_path / "deep" / "er" / "out.jsonl"  # folders are made
    argv = ["corpora", "convert", "--reader", "brat", "--mapping", tmp_path / "my.toml", foreign, out_file]
    code, _, err = call(capsys, *argv)
    assert code == 0
    assert all(line.startswith("  ") for line in err.splitlines()), "what was skipped, and no complaint"
    found = read_notes(out_file)
    assert [n.id for n in found.notes] == ["a", "b"]  # a note without an entity is a note
    assert [(e.type, e.span) for e in found.notes[0].entities] == [("problem", ((3, 8),))]
    assert [(m.type, m.span) for m in found.notes[0].modifiers] == [("negation", ((0, 2),))]
    assert found.notes[0].links == (Link("T1", "T2"),)
    assert found.header["skipped"] == {"label Odd: ignored": 1}
    assert json.loads(out_file.read_text(encoding="utf-8").split("\n")[0])["num_notes"] == 2
    _, out, _ = call(capsys, "corpora", "stats", out_file, "--json")
    found = one_line(out)
    assert (found["num_notes"], found["entities"]["problem"], found["links"]["problem.negation"]) == (2, 1, 1)
    assert found["skipped"] == {"label Odd: ignored": 1}


@pytest.mark.corpora
@pytest.mark.parametrize("inside", ["", "raw"])
@pytest.mark.parametrize(
    ("name", "num_notes", "problems", "pair", "num_links"),
    [
        ("kiwi_mtsamples", 144, 6214, "problem.negation", 2251),
        ("maccrobat2020", 200, 4744, "test.labvalue", 2747),
        ("chia", 2000, 12039, "problem.temporal", 1323),
        ("phee", 4827, 6652, "drug.route", 734),
    ],
)
def test_convert_an_open_corpus(name, num_notes, problems, pair, num_links, inside, tmp_path, capsys):
    source = CORPORA / name / inside
    if not source.is_dir():
        pytest.skip(f"real corpora are not here: {name}/{inside}")
    out_file = tmp_path / "out.jsonl"
    code, _, err = call(capsys, "corpora", "convert", name, source, out_file)
    assert code == 0
    assert all(line.startswith("  ") for line in err.splitlines())
    _, out, _ = call(capsys, "corpora", "stats", out_file, "--json")
    found = one_line(out)
    assert found["num_notes"] == num_notes
    assert found["entities"]["problem"] == pytest.approx(problems, rel=0.01)
    assert found["links"][pair] == pytest.approx(num_links, rel=0.03)
    assert isinstance(found["skipped"], dict)
    assert str(CORPORA) not in out_file.read_text(encoding="utf-8")  # where it lies is nobody's business


EVERYTHING = Annotates(frozenset(CLINICAL.entities), frozenset(CLINICAL.pair_names()))


def plain(note_id: str, text: str, *, group: str = "", part: str = "") -> Note:
    return Note(note_id, text, (), (), (), EVERYTHING, group, {"part": part} if part else {})


def test_split_keeps_copies_and_patients_together_and_says_so(tmp_path, capsys):
    notes = [plain(f"n{i}", f"Text {i}.") for i in range(8)]
    notes += [plain("copy", "Text  0.")]  # the same words
    notes += [plain("v1", "One visit.", group="p1"), plain("v2", "Another visit.", group="p1")]
    write_notes(tmp_path / "all.jsonl", notes, header={"name": "x", "schema": "clinical"})
    argv = ["corpora", "split", tmp_path / "all.jsonl", "--out", tmp_path / "out", "--seed"]
    for seed in range(6):
        code, out, _ = call(capsys, *argv, seed, "--parts", "train=0.5,validation=0.2,test=0.3")
        assert code == 0
        assert "copy, n0" in out
        parts = {p: read_notes(tmp_path / "out" / f"{p}.jsonl") for p in ("train", "validation", "test")}
        side = {n.id: p for p, found in parts.items() for n in found.notes}
        assert set(side) == {n.id for n in notes}
        assert side["copy"] == side["n0"]
        assert side["v1"] == side["v2"]


def test_split_by_the_corpus_own_parts(tmp_path, capsys):
    notes = [plain("a", "A.", part="train"), plain("b", "B.", part="test")]
    write_notes(tmp_path / "all.jsonl", notes, header={"name": "x", "schema": "clinical"})
    code, _, _ = call(
        capsys, "corpora", "split", tmp_path / "all.jsonl", "--out", tmp_path / "o", "--parts", "own"
    )
    assert code == 0
    assert [n.id for n in read_notes(tmp_path / "o" / "test.jsonl").notes] == ["b"]


# --- evaluate -------------------------------------------------------------------------------------------

TEXT = "No chest pain or fever. Stop aspirin."


@pytest.fixture
def gold(tmp_path) -> Path:
    """One note with three entities and two links, one without anything."""
    scope = Annotates(frozenset({"problem", "drug"}), frozenset({"problem.negation", "drug.negation"}))
    entities = (
        Entity("T1", "problem", ((3, 13),)),
        Entity("T2", "problem", ((17, 22),)),
        Entity("T3", "drug", ((29, 36),)),
    )
    negation = Entity("M1", "negation", ((0, 2),))
    links = (Link("T1", "M1"), Link("T2", "M1"))
    notes = [
        Note("n1", TEXT, entities, (negation,), links, scope),
        Note("n2", "Well.", (), (), (), scope),
    ]
    path = tmp_path / "gold.jsonl"
    write_notes(path, notes, header={"name": "gold", "schema": "clinical"})
    return path


def predictions(path: Path, *records: dict, annotates: dict | None = None) -> Path:
    """Predictions by hand, without text."""
    header = {
        "format": "fedmedlora-notes",
        "version": 1,
        "annotates": annotates or {"entities": ["problem"], "pairs": []},
    }
    path.write_text("".join(f"{json.dumps(r)}\n" for r in (header, *records)), encoding="utf-8")
    return path


def check_shape(scores: dict) -> None:
    """The contract: three kinds, strict and lenient, six numbers, and per type the same six."""
    assert list(scores) == ["entities", "modifiers", "links"]
    for criteria in scores.values():
        assert list(criteria) == ["strict", "lenient"]
        for numbers in criteria.values():
            assert {*SIX, "per_type"} <= set(numbers)
            for one in (numbers, *numbers["per_type"].values()):
                tp, fp, fn = one["tp"], one["fp"], one["fn"]
                assert all(isinstance(count, int) for count in (tp, fp, fn))
                assert one["precision"] == (pytest.approx(tp / (tp + fp)) if tp + fp else None)
                assert one["recall"] == (pytest.approx(tp / (tp + fn)) if tp + fn else None)
                total = 2 * tp + fp + fn
                assert one["f1"] == (pytest.approx(2 * tp / total) if total else None)
            assert all(set(one) == SIX for one in numbers["per_type"].values())


def test_evaluate_by_hand(gold, tmp_path, capsys):
    record = {
        "id": "n1",  # no text, and n2 is missing
        "entities": [
            {"id": "a", "type": "problem", "span": [[3, 13]]},  # exact
            {"id": "b", "type": "problem", "span": [[17, 23]]},  # one character too long
            {"id": "c", "type": "problem", "span": [[29, 36]]},  # wrong type
        ],
        "modifiers": [{"id": "m", "type": "negation", "span": [[0, 2]]}],
        "links": [["a", "m"]],
    }
    code, out, err = call(capsys, "evaluate", gold, predictions(tmp_path / "p.jsonl", record), "--json")
    scores = one_line(out)
    assert (code, err) == (0, "")
    check_shape(scores)

    def counts(kind, criterion):
        return tuple(scores[kind][criterion][key] for key in ("tp", "fp", "fn"))

    assert counts("entities", "strict") == (1, 2, 2)
    assert counts("entities", "lenient") == (2, 1, 1)
    assert counts("modifiers", "strict") == (1, 0, 0)
    assert counts("links", "strict") == (1, 0, 1)
    per_type = scores["entities"]["strict"]["per_type"]
    assert set(per_type) == {"problem", "drug"}
    assert per_type["drug"] == {"tp": 0, "fp": 0, "fn": 1, "precision": None, "recall": 0.0, "f1": 0.0}
    never = {"tp": 0, "fp": 0, "fn": 0, "precision": None, "recall": None, "f1": None}
    assert scores["links"]["strict"]["per_type"]["drug.negation"] == never


def test_gold_against_itself_and_against_nothing(gold, tmp_path, capsys):
    _, out, _ = call(capsys, "evaluate", gold, gold, "--json")
    same = one_line(out)
    check_shape(same)
    assert all(same[kind][c]["f1"] == 1 for kind in same for c in ("strict", "lenient"))
    code, out, _ = call(capsys, "evaluate", gold, predictions(tmp_path / "none.jsonl"), "--json")
    nothing = one_line(out)
    check_shape(nothing)
    assert code == 0
    assert [nothing["entities"]["strict"][k] for k in ("tp", "fp", "fn", "f1")] == [0, 0, 3, 0]
    assert nothing["entities"]["strict"]["precision"] is None


def test_evaluate_nothing_in_either_is_undefined(tmp_path, capsys):
    empty = predictions(tmp_path / "g.jsonl", {"id": "n1", "entities": []})
    _, out, _ = call(capsys, "evaluate", empty, empty, "--json")
    scores = one_line(out)
    check_shape(scores)
    assert scores["entities"]["strict"]["f1"] is None
    code, out, _ = call(capsys, "evaluate", empty, empty)
    assert code == 0
    assert "undefined" in out
    assert "no interval" not in out  # of nothing


def test_evaluate_says_why_a_score_has_no_interval(tmp_path, capsys):
    def notes(num):
        entity = {"id": "a", "type": "problem", "span": [[0, 4]]}
        records = [{"id": f"n{i}", "text": "Pain.", "entities": [entity]} for i in range(num)]
        return predictions(tmp_path / f"{num}.jsonl", *records)

    six, five = notes(6), notes(5)
    _, out, _ = call(capsys, "evaluate", six, six)
    assert "1.000 to 1.000" in out
    assert "no interval" not in out
    _, out, _ = call(capsys, "evaluate", five, five)
    assert "1.000 to" not in out
    assert out.endswith("no interval: fewer than 6 notes have anything to count, too few for one of 95 %\n")


def test_evaluate_brat_folders(gold, tmp_path, capsys):
    from fedmedlora.corpora.writers.brat import write_brat

    notes = read_notes(gold).notes
    write_brat(notes, tmp_path / "gold")
    write_brat([notes[0]], tmp_path / "predicted")
    code, out, _ = call(capsys, "evaluate", tmp_path / "gold", tmp_path / "predicted", "--json")
    scores = one_line(out)
    check_shape(scores)
    assert code == 0
    assert scores["entities"]["strict"]["tp"] == 3
    assert scores["links"]["strict"]["tp"] == 2
    # A folder against a file: note ids are what matters.
    _, out, _ = call(capsys, "evaluate", gold, tmp_path / "predicted", "--json")
    assert one_line(out)["entities"]["strict"]["f1"] == 1


def test_predictions_need_no_text_and_need_not_say_what_they_annotate(gold, tmp_path, capsys):
    from fedmedlora.corpora.writers.brat import write_brat

    whole = one_line(call(capsys, "evaluate", gold, gold, "--json")[1])
    write_brat(read_notes(gold).notes, tmp_path / "predicted")
    for text in (tmp_path / "predicted").rglob("*.txt"):
        text.unlink()
    assert any((tmp_path / "predicted").rglob("*.ann"))
    code, out, _ = call(capsys, "evaluate", gold, tmp_path / "predicted", "--json")
    assert (code, one_line(out)) == (0, whole)
    # GOLD has to have its text: there offsets are checked.
    code, out, err = call(capsys, "evaluate", tmp_path / "predicted", gold, "--json")
    assert (code, out) == (2, "")
    assert ".txt" in err

    header, *lines = gold.read_text(encoding="utf-8").splitlines()
    bare = {k: v for k, v in json.loads(header).items() if k in ("format", "version")}
    records = [json.loads(line) for line in lines]
    for record in records:
        record.pop("text"), record.pop("annotates", None)
    plain = tmp_path / "plain.jsonl"
    plain.write_text("\n".join(map(json.dumps, [bare, *records])) + "\n", encoding="utf-8")
    code, out, _ = call(capsys, "evaluate", gold, plain, "--json")
    assert (code, one_line(out)) == (0, whole)
    code, out, err = call(capsys, "evaluate", plain, gold, "--json")
    assert (code, out) == (2, "")
    assert "annotates" in err


def test_a_prediction_past_the_gold_text_is_refused(gold, tmp_path, capsys):
    far = {"id": "n1", "entities": [{"id": "E1", "type": "problem", "span": [[0, 90000]]}]}
    code, out, err = call(capsys, "evaluate", gold, predictions(tmp_path / "p.jsonl", far), "--json")
    assert (code, out) == (2, "")
    assert "'n1': a prediction ends at character 90000, past the gold text" in err


def test_no_command_writes_over_its_input(gold, tmp_path, capsys, tiny_run, tiny_study):
    from fedmedlora.corpora.writers.brat import write_brat

    write_brat(read_notes(gold).notes, tmp_path / "brat")
    text = sorted((tmp_path / "brat").rglob("*.txt"))[0]
    own = tmp_path / "parts" / "train.jsonl"
    own.parent.mkdir()
    own.write_bytes(gold.read_bytes())
    before = {path: path.read_bytes() for path in (text, own)}
    adapter = tiny_run / "adapters" / "fed_medlora"
    for argv in (
        ["corpora", "convert", "--reader", "brat", tmp_path / "brat", text],
        ["corpora", "split", own, "--out", own.parent, "--parts", "train=0.5,test=0.5"],
        ["extract", text, "--adapter", adapter, "--model", tiny_study / "model", "--out", text],
        ["extract", own, "--adapter", adapter, "--model", tiny_study / "model", "--out", own],
    ):
        code, out, err = call(capsys, *argv)
        assert (code, out) == (2, ""), argv
        assert "write to another place" in err
        assert {path: path.read_bytes() for path in before} == before


def test_convert_says_what_it_skipped_and_what_it_never_saw(tmp_path, capsys):
    (tmp_path / "n.txt").write_text("no pain", encoding="utf-8")
    (tmp_path / "n.ann").write_text("T1\tproblem 3 7\tpain\n#1\tAnnotatorNotes T1\thm\n", encoding="utf-8")
    code, _, err = call(capsys, "corpora", "convert", "--reader", "brat", tmp_path, tmp_path / "o.jsonl")
    assert code == 0
    assert "skipped 1: comment (# line)" in err
    assert "never seen" in err
    assert "treatment" in err
    unseen = err.partition("annotated: ")[2].partition(".")[0]
    assert "problem" not in unseen.split(", ")


def test_split_names_what_an_earlier_split_left(gold, tmp_path, capsys):
    assert call(capsys, "corpora", "split", gold, "--out", tmp_path, "--parts", "train=0.5,test=0.5")[0] == 0
    _, _, err = call(capsys, "corpora", "split", gold, "--out", tmp_path, "--parts", "train=0.5,dev=0.5")
    assert "also holds" in err
    assert "test.jsonl" in err


def test_a_note_that_gold_lacks_is_an_error(gold, tmp_path, capsys):
    extra = predictions(tmp_path / "p.jsonl", {"id": "n1"}, {"id": "stranger"})
    code, out, err = call(capsys, "evaluate", gold, extra, "--json")
    assert (code, out) == (2, "")
    assert "stranger" in err


def test_a_closed_pipe_is_no_error():
    listing = program("corpora", "list")
    listing.stdout.close()
    assert listing.wait(timeout=60) == 0
    assert listing.stderr.read() == ""
    listing.stderr.close()


# --- run ------------------------------------------------------------------------------------------------


def test_run_prints_one_line_of_json_and_resumes_to_the_same(tiny_study, tiny_run, marked, capfd):
    before = (tiny_run / "adapters" / "fed_medlora" / "adapter_model.safetensors").read_bytes()
    told = read_results(tiny_run / "results.json")
    told |= {"created_utc": "2026-01-02T03:04:05Z", "command": ["fedmedlora", "as", "it", "was"]}
    write_results(tiny_run / "results.json", told)
    file_before = (tiny_run / "results.json").read_bytes()
    argv = ["run", tiny_study / "study.toml", "--out", tiny_run, "--resume", "--json"]
    code, out, err = call(capfd, *argv)  # capfd: libraries that write past sys.stdout are seen as well
    results = one_line(out)
    assert code == 0
    validate(results)
    assert results["name"] == "Tiny"
    assert marked not in out + err
    assert "loading the model" in err
    assert (tiny_run / "adapters" / "fed_medlora" / "adapter_model.safetensors").read_bytes() == before
    # it was finished: when and by which command stays as it was told
    assert (tiny_run / "results.json").read_bytes() == file_before
    assert "Made by <code>fedmedlora as it was</code>" in (tiny_run / "report.html").read_text()


def test_a_report_of_a_folder_without_results_says_where_they_are(tmp_path, capsys):
    demo = tmp_path / "demo-run"
    (demo / "run").mkdir(parents=True)
    (demo / "notes").mkdir()
    write_results(demo / "run" / "results.json", make_results())
    code, out, err = call(capsys, "report", demo)
    assert (code, out) == (2, "")
    assert err.endswith(f"holds no results.json and no study-results.json; did you mean {demo / 'run'}?\n")
    code, out, _ = call(capsys, "report", demo / "run")
    assert (code, out) == (0, f"{demo / 'run' / 'report.html'}\n")
    code, out, _ = call(capsys, "report", demo / "run" / "results.json")  # the file will do
    assert code == 0
    for folder, said in (
        (demo / "notes", "give the folder that run wrote to"),
        (tmp_path / "x", "no such folder"),
    ):
        assert said in call(capsys, "report", folder)[2]
    (demo / "notes" / "run.json").write_text("{}")
    assert "is not finished; go on with run --resume" in call(capsys, "report", demo / "notes")[2]
    assert "--study: " in call(capsys, "report", demo / "run", "--study", "study.toml")[2]


def test_a_process_of_its_own_prints_one_line_too(tiny_study, tmp_path, marked):
    done = program("run", tiny_study / "study.toml", "--out", tmp_path / "run", "--json")
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    validate(one_line(out))
    assert marked not in out + err
    assert "warning" not in err.lower()


def test_no_file_of_a_run_but_the_report_holds_note_text(tiny_run, marked):
    for path in tiny_run.rglob("*"):
        if path.is_file() and path.name != "report.html":  # synthetic examples only, and the report says so
            assert marked.encode() not in path.read_bytes(), path.name
    predicted = list((tiny_run / "predictions").rglob("*.jsonl"))
    assert len(predicted) >= 8  # two methods, two sites, with gold entities and end to end
    for path in predicted:
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
        assert lines
        assert all("text" not in json.loads(line) for line in lines)


def test_a_second_run_into_the_same_folder_is_refused(tiny_study, tiny_run, capsys):
    before = {p: p.read_bytes() for p in tiny_run.rglob("*") if p.is_file()}
    code, out, err = call(capsys, "run", tiny_study / "study.toml", "--out", tiny_run)
    assert (code, out) == (2, "")
    assert "--resume" in err
    assert {p: p.read_bytes() for p in tiny_run.rglob("*") if p.is_file()} == before


def test_report_is_written_again(tiny_run, tmp_path, capsys):
    (tmp_path / "results.json").write_bytes((tiny_run / "results.json").read_bytes())
    code, out, _ = call(capsys, "report", tmp_path)
    assert code == 0
    assert Path(out.strip()).read_text(encoding="utf-8").startswith("<!doctype html>")


def test_ctrl_c_is_exit_130_and_resume_finishes(tiny_study, tiny_run, tmp_path, marked, capsys):
    # More rounds than tiny_run has would give another adapter, so the study stays as it is: the first
    # round is waited for, and what is left is enough to be interrupted.
    out = tmp_path / "run"
    running = program("run", tiny_study / "study.toml", "--out", out)
    deadline = time.monotonic() + 120
    while not (out / "methods" / "fed_medlora" / "round-001.json").exists():
        assert running.poll() is None, running.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    said, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert said == ""
    assert "--resume" in err
    assert "Traceback" not in err
    assert marked not in err
    assert not list(out.rglob("*.part"))
    assert not (out / "results.json").exists()
    code, _, _ = call(capsys, "run", tiny_study / "study.toml", "--out", out, "--resume")
    assert code == 0
    adapter = Path("adapters") / "fed_medlora" / "adapter_model.safetensors"
    assert (out / adapter).read_bytes() == (tiny_run / adapter).read_bytes()
    now, whole = read_results(out / "results.json"), read_results(tiny_run / "results.json")
    assert [e["scores"] for m in now["methods"] for e in m["evaluations"]] == [
        e["scores"] for m in whole["methods"] for e in m["evaluations"]
    ]


# --- extract --------------------------------------------------------------------------------------------

HOSTILE = "<script>alert(1)</script> Pt denies chest pain & \"fever\"; <b>aspirin</b> 81 mg.\nNo 'nausea'.\n"
HOSTILE_IDS = ("../escape", "a/b", ".hidden", "CON", "x" * 300, "Ünïcode \U0001f600", "a\nb", "%41", "")


def extract(capsys, tiny_run, tiny_study, *more):
    adapter = ["--adapter", tiny_run / "adapters" / "fed_medlora", "--model", tiny_study / "model"]
    return call(capsys, "extract", *more, *adapter)


def test_extract_jsonl(tiny_run, tiny_study, tmp_path, capsys):
    (tmp_path / "n.txt").write_text(HOSTILE, encoding="utf-8")
    out_file = tmp_path / "found.jsonl"
    code, out, _ = extract(capsys, tiny_run, tiny_study, tmp_path / "n.txt", "--out", out_file)
    assert (code, out) == (0, "")
    (note,) = read_notes(out_file).notes
    assert (note.id, note.text) == ("n", HOSTILE)
    assert note.entities  # a random model marks something
    assert load_notes(out_file).notes == (note,)
    code, out, _ = extract(capsys, tiny_run, tiny_study, tmp_path / "n.txt")
    assert code == 0
    assert out == out_file.read_text(encoding="utf-8")  # stdout and --out: the same


def test_extract_takes_jsonl_and_brat_and_drops_their_annotations(tiny_run, tiny_study, tmp_path, capsys):
    fake = Entity("T9", "drug", ((0, 2),))
    note = Note("j", "Pt denies pain.", (fake,), (), (), EVERYTHING)
    write_notes(tmp_path / "j.jsonl", [note], header={"name": "x", "schema": "clinical"})
    (tmp_path / "brat").mkdir()
    (tmp_path / "brat" / "b.txt").write_text("Well.\n", encoding="utf-8")
    (tmp_path / "brat" / "b.ann").write_text("T1\tTheirOwn 0 4\tWell\n", encoding="utf-8")  # plays no role
    inputs = [tmp_path / "j.jsonl", tmp_path / "brat"]
    code, _, _ = extract(capsys, tiny_run, tiny_study, *inputs, "--out", tmp_path / "found.jsonl")
    assert code == 0
    found = read_notes(tmp_path / "found.jsonl").notes
    assert [n.id for n in found] == ["j", "b"]
    assert "T9" not in {e.id for e in found[0].entities}


def test_extract_brat_with_hostile_names(tiny_run, tiny_study, tmp_path, capsys):
    ids = HOSTILE_IDS[:-1]  # the empty id is no id: the reader refuses it
    notes = [Note(i, f"Pt denies pain, {k}.", (), (), (), EVERYTHING) for k, i in enumerate(ids)]
    write_notes(tmp_path / "in.jsonl", notes, header={"name": "x", "schema": "clinical"})
    out = tmp_path / "deep" / "brat"
    before = set(tmp_path.iterdir())
    code, _, _ = extract(
        capsys, tiny_run, tiny_study, tmp_path / "in.jsonl", "--format", "brat", "--out", out
    )
    assert code == 0
    assert set(tmp_path.iterdir()) - before == {tmp_path / "deep"}
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["brat"]
    files = list(out.iterdir())
    assert len(files) == 2 * len(ids)
    assert all(p.is_file() and p.suffix in (".txt", ".ann") and p.name[0] != "." for p in files)
    by_text = {n.text: n.id for n in load_notes(out).notes}
    for note in notes:
        if len(note.id) < 200:  # a name that is too long is shortened for good
            assert by_text[note.text] == note.id


def test_extract_html_escapes_what_it_shows(tiny_run, tiny_study, tmp_path, capsys):
    note = Note("<img src=x>", HOSTILE, (), (), (), EVERYTHING)
    write_notes(tmp_path / "in.jsonl", [note], header={"name": "x", "schema": "clinical"})
    out = tmp_path / "page.html"
    code, _, _ = extract(
        capsys, tiny_run, tiny_study, tmp_path / "in.jsonl", "--format", "html", "--out", out
    )
    assert code == 0
    page = out.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page
    assert "<mark" in page
    assert oct(out.stat().st_mode & 0o777) == "0o600"  # note text: for its owner only


def test_the_page_shows_modifiers_that_belong_to_no_entity(tmp_path):
    from fedmedlora.cli import _write_extracted

    entity, *modifiers = (
        Entity("T1", "problem", ((10, 15),)),
        Entity("T2", "negation", ((0, 2),)),
        Entity("T3", "severity", ((3, 9),)),
    )
    note = Note("n", "no severe fever", (entity,), tuple(modifiers), (Link("T1", "T2"),), EVERYTHING)
    _write_extracted([note], "html", tmp_path / "page.html", "clinical")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<td>fever</td><td>negation</td><td>no</td>" in page
    assert "<td></td><td>severity</td><td>severe</td>" in page
    assert page.count("<tr>") == 3

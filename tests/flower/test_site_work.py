"""A site's own side of the rules whose factors do not all travel: what it keeps, and what it sends."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("flwr", reason="flwr is not installed: pip install 'fedmedlora[flower]'")

from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import Local, take
from fedmedlora.exchange.update import SiteUpdate
from fedmedlora.flower.messages import Letter, errand_fields, errand_of
from fedmedlora.flower.site_file import load_site_file
from fedmedlora.flower.site_work import UPDATE, open_site
from fedmedlora.in_process import InProcess
from fedmedlora.local_site import with_lora
from fedmedlora.model.load import load_base_model
from fedmedlora.model.lora import read_adapter
from fedmedlora.prepare import prepare, terms_of
from fedmedlora.run_folder import OwnParts
from fedmedlora.sites import Errand
from fedmedlora.study import load_study

FEDSA = Errand("fedsa_lora", Local(sends="A"))
FFA = Errand("ffa_lora", Local(trains="B", sends="B"))


@pytest.fixture
def both(three_sites, tmp_path):
    """(the site as a hospital runs it, the same site in the coordinator's process, the untrained adapter)."""
    study = load_study(three_sites / "study.toml")
    base = load_base_model(study.model_name(), precision="float32")
    terms = terms_of(study, base)
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
        update = SiteUpdate.from_bytes(work.train(round_num, current, errand).part(UPDATE))
        (report,) = here.train(["lakeside"], round_num, current, errand)
        assert update == report.update
        assert set(update.adapter.arrays) == set(current.arrays)
        # Asked again, because the answer was lost: the same update, and nothing is trained twice.
        assert SiteUpdate.from_bytes(work.train(round_num, current, errand).part(UPDATE)) == update
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
    answer = work.train(1, take(start, "A"), FEDSA)
    sent = SiteUpdate.from_bytes(answer.part(UPDATE))
    assert list(answer.parts) == [UPDATE]
    assert not any(".lora_B." in name for name in sent.adapter.arrays)


def test_an_errand_travels_and_odd_ones_are_refused():
    for errand in (FEDSA, FFA, Errand("fedprox", Local(proximal=0.5))):
        assert errand_of(Letter(errand_fields(errand))) == errand
    for odd in (
        {"method": 3, "local": {}},
        {"method": "x"},
        {"method": "x", "local": {"trains": "A"}},
        {"method": "x", "local": {"trains": "B"}},
        {"method": "x", "local": {"run": "rm"}},
        {"method": "x", "local": {"proximal": -1.0}},
    ):
        with pytest.raises(ValueError, match=r"message|sends"):
            errand_of(Letter(odd))


def test_the_name_of_a_method_is_no_path(both, tmp_path):
    work, _, start = both
    hostile = Errand("../" * 3 + "escape", FEDSA.local)
    work.train(1, take(start, "A"), hostile)
    assert not list(tmp_path.parent.glob("**/escape*"))


def test_an_adapter_of_the_wrong_parts_is_refused(both):
    work, _, start = both
    with pytest.raises(ValueError, match="does not fit"):
        work.train(1, Adapter({"x.lora_A.y": next(iter(start.arrays.values()))}), FEDSA)

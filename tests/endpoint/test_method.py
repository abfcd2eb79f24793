"""The method ``endpoint``: a whole study with a chat model behind a real server in it."""

from __future__ import annotations

import json

import pytest
from tiny_study import make_study

from fedmedlora.corpora.jsonl import read_notes
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.endpoint.request import LIST, body
from fedmedlora.endpoint.settings import Endpoint
from fedmedlora.experiment import run_study
from fedmedlora.many_runs import run_many
from fedmedlora.report.results import validate
from fedmedlora.study import parse_study
from fedmedlora.study_public import public_settings
from fedmedlora.tasks.training_set import training_set

METHODS = ["zero_shot", "endpoint"]


def table(url: str, **more) -> str:
    settings = {"url": url, "model": "some-model", "max_retries": 0, **more}
    return "[endpoint]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())


@pytest.fixture
def knows_all(server, reply, material):
    """The server answers with what is annotated, and with nothing to what it does not know."""
    gold = {}
    endpoint = Endpoint(url=server.url, model="some-model")
    for path in material.glob("*.test.jsonl"):
        notes = read_notes(path).notes
        for as_asked in (False, True):
            examples = training_set(notes, CLINICAL, prompt_set="short", form="json", as_asked=as_asked)
            for of_task in examples.examples.values():
                for example in of_task:
                    asked = body(endpoint, example)["messages"][0]["content"]
                    gold[asked] = json.dumps({LIST: json.loads("".join(example.target))})
    none = json.dumps({LIST: []})
    server.answer = lambda request: reply(gold.get(request["messages"][0]["content"], none))
    return server


def study_of(material, folder, server, *, methods=METHODS, more="", **settings):
    prices = {"price_per_million_input": 1.0, "price_per_million_output": 10.0, "currency": "EUR"}
    return make_study(
        material, folder, methods=methods, more=table(server.url, **prices, **settings) + more, rounds=1
    )


def test_it_reads_every_cohort_and_says_what_it_cost(knows_all, material, tmp_path):
    results = run_study(study_of(material, tmp_path / "study", knows_all), tmp_path / "out")
    validate(results)
    zero_shot, endpoint = results["methods"]
    assert endpoint["label"] == "Chat model, some-model"
    assert [e["cohort"] for e in endpoint["evaluations"]] == [e["cohort"] for e in zero_shot["evaluations"]]
    assert (zero_shot["usage"], endpoint["trained_parameters"]) == (None, None)
    for evaluation in endpoint["evaluations"]:
        assert evaluation["num_unparsed"] == evaluation["num_ungrounded"] == 0
        for kind in ("entities", "modifiers_gold", "modifiers_end_to_end"):
            assert evaluation["scores"][kind]["strict"]["f1"] == 1.0, (evaluation["cohort"], kind)
    # 100 tokens sent and 10 received each: (100 * 1 + 10 * 10) / 1e6 EUR a request.
    num = len(knows_all.requests)
    assert num > 6
    cost = pytest.approx(num * 200 / 1e6)
    assert endpoint["usage"] == {
        "num_requests": num, "num_failed": 0, "num_retries": 0, "prompt_tokens": 100 * num,
        "completion_tokens": 10 * num, "cost": cost, "currency": "EUR",
    }  # fmt: skip
    # Nothing that was said is kept: neither sentences nor answers.
    sentence = knows_all.said()[0].rsplit("\n", 1)[1]
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or sentence.encode() not in path.read_bytes(), path.name


def test_a_run_that_was_stopped_asks_for_the_rest(knows_all, material, tmp_path):
    study = study_of(material, tmp_path / "study", knows_all, methods=["endpoint"])
    whole = run_study(study, tmp_path / "out")
    num = len(knows_all.requests)
    (tmp_path / "out" / "methods" / "endpoint" / "stonebridge-constrained.json").unlink()
    again = run_study(study, tmp_path / "out", resume=True)
    assert again["methods"][0]["usage"]["num_requests"] == num
    assert 0 < len(knows_all.requests) - num < num
    assert len(whole["methods"][0]["evaluations"]) == len(again["methods"][0]["evaluations"])


def test_seeds_ask_once_and_count_once(knows_all, material, tmp_path):
    other = '[[arms]]\nname = "other"\ngroup = "x"\nchange.endpoint.model = "other-model"\n'
    study = make_study(
        material, tmp_path / "study", methods=["endpoint"], more=table(knows_all.url), rounds=1,
        head="seeds = [3, 4]\n", after=other,
    )  # fmt: skip
    results = run_many(study, tmp_path / "out")
    asked = [request["model"] for _, _, request in knows_all.requests]
    usages = [run["methods"][0]["usage"] for run in results["runs"]]
    assert [usage and usage["num_requests"] for usage in usages] == [
        asked.count("some-model"), None, asked.count("other-model"), None,
    ]  # fmt: skip
    assert (usages[0]["cost"], usages[0]["currency"]) == (None, "")
    assert asked.count("some-model") == asked.count("other-model") > 0


def test_it_stops_before_anything_is_done(server, material, tmp_path):
    study = study_of(
        material, tmp_path / "study", server, methods=["fed_medlora", "endpoint"], key_env="NO_SUCH"
    )
    with pytest.raises(ValueError, match=r"^\[endpoint\] key_env: .*NO_SUCH is not set"):
        run_study(study, tmp_path / "out")
    assert not (tmp_path / "out" / "methods").exists()


SITE = '[[sites]]\nname = "a"\ntrain = "a.jsonl"\n'
HEAD = 'name = "x"\nmethods = ["endpoint"]\n'
NEAR = "http://127.0.0.1:1/v1"
FAR = "https://chat.hospital.example:8443/team/v1"


@pytest.mark.parametrize(
    ("text", "here", "says"),
    [
        (HEAD + SITE, True, r"no table \[endpoint\]"),
        (HEAD + table(FAR) + SITE, True, r"\[endpoint\] url: .* another machine"),
        (HEAD + table(FAR, notes_may_leave=True) + SITE, False, "send their notes away"),
        (HEAD + table(NEAR) + '[tasks]\nnames = ["instruction"]\n' + SITE, True, "has none"),
        (HEAD + "endpoint = 3\n" + SITE, True, r"write it as a table, \[endpoint\]"),
        (HEAD + table(NEAR, modl="x") + SITE, True, "did you mean model"),
    ],
)  # fmt: skip
def test_a_study_that_cannot_ask_is_refused(text, here, says):
    with pytest.raises(ValueError, match=says):
        parse_study(text, sites_are_here=here)


def test_permission_is_asked_for_by_the_method_alone():
    """A table that no method uses sends nothing: it is allowed, and said to have no effect."""
    text = 'name = "x"\nmethods = ["zero_shot"]\n' + table(FAR) + SITE
    study, notices = parse_study(text)
    assert any("[endpoint] url, model, max_retries: no effect" in notice for notice in notices)
    assert parse_study('name = "x"\nmethods = ["zero_shot"]\n' + SITE)[0].endpoint is None
    assert "endpoint" not in parse_study('name = "x"\nmethods = ["zero_shot"]\n' + SITE)[0].to_dict()
    # Where a server is found inside a hospital is nobody else's business; which machine was asked is.
    arm = f'[[arms]]\nname = "b"\ngroup = "x"\nchange.endpoint.url = "{FAR}"\n'
    shown = public_settings(parse_study(text + arm)[0])
    assert shown["endpoint"]["url"] == "https://chat.hospital.example"
    assert shown["arms"][0]["change"]["endpoint"]["url"] == "https://chat.hospital.example"
    assert study.to_dict()["endpoint"]["url"] == FAR

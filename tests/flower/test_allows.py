"""``[allows]``: every key lets through what is just allowed, and refuses what is beyond, by its name."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime

import pytest

from fedmedlora.exchange.exchange import Exchange
from fedmedlora.exchange.local import Local
from fedmedlora.flower.allows import Allows, NotNow, Refused
from fedmedlora.settings import read_table
from fedmedlora.sites import Errand
from fedmedlora.study_tables import Lora, Tasks, Training
from fedmedlora.terms import Terms, frame_hash

A, B = "a" * 64, "b" * 64
TERMS = Terms(seed=0, base_model=A, tokenizer=B, frame=("<u>", "</u>"), prompts="")
FRAME = frame_hash(TERMS.frame)
ERRAND = Errand("fed_medlora")


def training(**changes):
    return {"training": Training(**changes)}


# key, its value, terms that are just allowed, terms that are not, words of the refusal
TERMS_KEYS = [
    ("tasks", ["ner"], {"tasks": Tasks(names=("ner",))}, {}, "tasks modifiers are not .*: ner"),
    ("forms", ["json"], {"tasks": Tasks(form="json")}, {}, "forms markup are not .*: json"),
    ("base_model", A, {}, {"base_model": B}, f"base model has sha256 {B}; this site allows {A}"),
    ("tokenizer", B, {}, {"tokenizer": A}, f"tokenizer has sha256 {A}; this site allows {B}"),
    ("chat_template", FRAME, {}, {"frame": ("<u>", "")}, f"chat template has .*; this site allows {FRAME}"),
    ("max_rank", 8, {"adapter": Lora(rank=8)}, {"adapter": Lora(rank=9)}, "rank 9: .* at most 8"),
    ("max_alpha", 8, {"adapter": Lora(alpha=8)}, {"adapter": Lora(alpha=8.5)}, "alpha 8.5: .* at most 8"),
    (
        "targets",
        ["q_proj", "v_proj"],
        {"adapter": Lora(targets=("v_proj",))},
        {"adapter": Lora(targets=("v_proj", "lm_head"))},
        "targets lm_head are not among those that this site allows: q_proj, v_proj",
    ),
    ("targets", ["q_proj"], {"adapter": Lora(targets=("q_proj",))}, {}, "targets all-linear are not"),
    ("targets", ["all-linear"], {}, {"adapter": Lora(targets=("q_proj",))}, "targets q_proj are not"),
    ("max_rounds", 3, training(rounds=3), training(rounds=4), "rounds 4: .* at most 3"),
    (
        "max_steps_per_round",
        7,
        training(steps_per_round=7),
        training(steps_per_round=8),
        "steps_per_round 8: .* at most 7",
    ),
    (
        "max_passes_per_round",
        2,
        training(passes_per_round=2),
        training(passes_per_round=3),
        "passes_per_round 3: .* at most 2",
    ),
    (
        "min_examples",
        10,
        training(max_train_examples=10),
        training(max_train_examples=9),
        "max_train_examples 9: .* at least 10",
    ),
]
ELSEWHERE = {
    "whole_model", "uploads", "hours", "scores", "validates_others", "shows_adapter", "max_total_rounds",
    "max_total_steps",
}  # fmt: skip


def allows(**keys) -> Allows:
    return read_table(Allows, keys, "[allows]")


def test_every_key_is_tested():
    assert {key for key, *_ in TERMS_KEYS} | ELSEWHERE == {one.name for one in fields(Allows)}


@pytest.mark.parametrize(("key", "value", "good", "bad", "words"), TERMS_KEYS)
def test_up_to_what_is_allowed_and_no_further(key, value, good, bad, words):
    site = allows(**{key: value})
    site.refuse_terms(replace(TERMS, **good))
    with pytest.raises(Refused, match=words) as caught:
        site.refuse_terms(replace(TERMS, **bad))
    assert str(caught.value).endswith(f"({key})")
    assert "\n" not in str(caught.value)


def test_with_nothing_said_the_defaults_of_a_study_pass():
    Allows().refuse_terms(TERMS)
    Allows().refuse_errand(ERRAND)
    Allows().refuse_hour(datetime(2026, 3, 5))
    assert Allows().refuse_work(1, TERMS) == 1


def test_no_more_than_the_defaults():
    for changes in (
        training(rounds=101),
        training(steps_per_round=100_001),
        training(passes_per_round=101),
        {"adapter": Lora(rank=65)},
        {"adapter": Lora(alpha=1025.0)},
        {"tasks": Tasks(names=("instruction",))},
        {"held_out_sentences": 1},
    ):
        with pytest.raises(Refused):
            Allows().refuse_terms(replace(TERMS, **changes))


def test_passes_are_no_matter_where_the_study_asks_for_steps():
    site = allows(max_passes_per_round=2)
    site.refuse_terms(replace(TERMS, **training(passes_per_round=9, steps_per_round=1)))


@pytest.mark.parametrize("missing", ["validates_others", "shows_adapter"])
def test_validation_by_the_sites_needs_both_keys(missing):
    both = dict.fromkeys(("validates_others", "shows_adapter"), True)
    terms = replace(TERMS, held_out_sentences=1)
    allows(**both).refuse_terms(terms)
    with pytest.raises(Refused, match=rf"this site does not \({missing} = false\)"):
        allows(**both | {missing: False}).refuse_terms(terms)


def test_the_whole_model_goes_only_where_the_site_says_so():
    whole = Errand("fedavg_full", Local(trains="model", sends="model"))
    allows(whole_model=True).refuse_errand(whole)
    with pytest.raises(Refused, match=r"fedavg_full: .* \(whole_model = false\)"):
        Allows().refuse_errand(whole)


def test_codecs_of_the_upload():
    site = allows(uploads=["int8"])
    site.refuse_errand(replace(ERRAND, exchange=Exchange(upload="int8", download="float32")))
    with pytest.raises(Refused, match=r"uploads float32 are not .*: int8 \(uploads\)"):
        site.refuse_errand(ERRAND)
    with pytest.raises(Refused, match=r"this site allows: none \(uploads\)"):
        allows(uploads=[]).refuse_errand(ERRAND)


def test_hours():
    site = allows(hours="20:00-06:00")
    site.refuse_hour(datetime(2026, 3, 5, 20, 0))
    with pytest.raises(NotNow, match="between 20:00-06:00 by its clock") as caught:
        site.refuse_hour(datetime(2026, 3, 5, 19, 0))
    assert caught.value.opens_in_s == 3600
    assert not isinstance(caught.value, Refused)


@pytest.mark.parametrize(
    ("num_examples", "keys", "asked", "steps", "words"),
    [
        # 10 examples, 4 to a step: one pass is ceil(10 / 4) = 3 steps, two are ceil(20 / 4) = 5.
        (10, {"max_steps_per_round": 3}, {}, 3, ""),
        (10, {"max_steps_per_round": 2}, {}, 0, "would take 3 optimizer steps here; .* at most 2"),
        (10, {"max_passes_per_round": 2}, {"steps_per_round": 5}, 5, ""),
        (10, {"max_passes_per_round": 2}, {"steps_per_round": 6}, 0, "round of 6 .* than the 2 times"),
        (10, {"max_passes_per_round": 2}, {"passes_per_round": 2}, 5, ""),
        (10, {"max_passes_per_round": 2}, {"passes_per_round": 3}, 0, "round of 8 .* than the 2 times"),
        (1, {"max_passes_per_round": 1}, {"steps_per_round": 1}, 1, ""),
        (1, {"max_passes_per_round": 1}, {"steps_per_round": 2}, 0, "more often than the 1 times"),
        (10, {"min_examples": 10}, {}, 3, ""),
        (9, {"min_examples": 10}, {}, 0, r"fewer examples .*, 10 \(min_examples\)"),
    ],
)
def test_what_depends_on_how_many_examples_there_are(num_examples, keys, asked, steps, words):
    terms = replace(TERMS, **training(examples_per_step=4, micro_batch=1, **asked))
    if steps:
        assert allows(**keys).refuse_work(num_examples, terms) == steps
        return
    with pytest.raises(Refused, match=words) as caught:
        allows(**keys).refuse_work(num_examples, terms)
    assert str(num_examples) not in str(caught.value) or num_examples in (1, 10)  # how many is not told


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"tasks": ["nre"]}, "tasks: unknown task 'nre'; did you mean ner"),
        ({"forms": ["xml"]}, "forms"),
        ({"uploads": ["int9"]}, "uploads: unknown codec 'int9'; did you mean int"),
        ({"uploads": "int8"}, 'must be "any" or list of text'),
        ({"base_model": "abc"}, "base_model: 'abc' is no sha256"),
        ({"tokenizer": A.upper()}, "tokenizer: .* is no sha256"),
        ({"hours": "8-17"}, "hours: '8-17' are none"),
        ({"max_rounds": 0}, "max_rounds: 0 is out of range"),
        ({"min_examples": 0}, "min_examples: 0 is out of range"),
        ({"max_total_steps": 1.5}, "max_total_steps: 1.5 is not allowed"),
        ({"max_epochs": 3}, "max_epochs: unknown key"),
    ],
)
def test_what_is_wrong_in_the_file_is_said(keys, words):
    with pytest.raises(ValueError, match=words):
        allows(**keys)

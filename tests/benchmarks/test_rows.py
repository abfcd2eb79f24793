"""What the table is made of: targets, bounds, spreads, and the page that holds it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
from rows.flower import Round
from rows.generators import PLAIN
from rows.jobs import all_jobs, chosen
from rows.machine import describe, words
from rows.operations import bound
from rows.row import Row, Spread, Target, from_json, measured, ratios, to_json
from rows.same_text import Decision, first_difference, verdict
from rows.sentences import spread_by_length
from rows.setting import Setting
from rows.table import BEGIN, END, PAGE, RECORD, line, page_part, with_part
from rows.training import PADDED, part


@pytest.mark.parametrize(
    ("target", "value", "limit", "met"),
    [
        (Target(least=4.0), 4.0, None, True),
        (Target(least=4.0), 3.99, None, False),
        (Target(most=5.0), 5.1, None, False),
        (Target(least=0.8, of_bound=True), 4.0, 5.0, True),  # 0.8 * 5 = 4
        (Target(least=0.8, of_bound=True), 3.9, 5.0, False),
        (Target(least=0.8, of_bound=True), 3.9, None, None),
        (Target(), 1.0, None, None),
    ],
)
def test_a_target_judges(target, value, limit, met):
    assert target.met(value, limit) is met


def test_ratios_are_of_the_same_repetition():
    assert ratios([8.0, 9.0, 4.0], [2.0, 3.0, 4.0]) == Spread(3.0, 1.0, 4.0)


def test_another_result_meets_no_target():
    row = measured("a", "b", "c", Spread(9.0, 9.0, 9.0), target=Target(least=4.0), is_same=False)
    assert row.met is False


def test_a_row_survives_json():
    row = measured(
        "a", "b", "c", Spread(2.0, 1.0, 3.0), target=Target(least=1.0), bound=4.0, details={"s": [1]}
    )
    assert from_json(json.loads(json.dumps(to_json(row)))) == row
    blank = Row("a", "b", "c", why="no GPU here")
    assert from_json(json.loads(json.dumps(to_json(blank)))) == blank


@dataclass
class Tokens:
    prefix: range
    num: int
    target: range

    def __len__(self) -> int:
        return self.num


def test_the_bound_counts_multiply_adds():
    # One layer of width 1 with one head: projections 2 + 2, gated layer 3, so 7 a token; head 10 a target.
    config = SimpleNamespace(
        hidden_size=1, num_attention_heads=1, num_key_value_heads=1, intermediate_size=1, num_hidden_layers=1,
        vocab_size=10,
    )  # fmt: skip
    two = [Tokens(range(6), 4, range(2))] * 2
    # A padded row: 10 tokens, 70 + attention 2 * 10 * 5 = 100, and the head at 10 or at 2 places.
    # Shared: 6 tokens once, 42 + 2 * 6 * 3 = 36; a row 28 + 2 * 4 * (6 + 2) = 64, and 20.
    shared = 42 + 36 + 2 * (28 + 64 + 20)
    assert bound(config, two, all_logits=True) == pytest.approx(2 * (70 + 100 + 100) / shared)
    assert bound(config, two, all_logits=False) == pytest.approx(2 * (70 + 100 + 20) / shared)


def test_a_part_is_whole_micro_batches():
    assert part(list(range(8)), 2, 2) == [2, 3, 6, 7]
    assert part(list(range(8)), 2, 0) == list(range(8))
    assert part([1], 4, 2) == [1]


def test_sentences_keep_the_spread_of_lengths():
    every = [SimpleNamespace(id=str(n), pieces=range(n)) for n in range(100)]
    assert [len(e.pieces) for e in spread_by_length(every, 4)] == [87, 62, 37, 12]
    assert len(spread_by_length(every[:3], 4)) == 3


def test_where_texts_differ_first():
    plain = [Decision(1, {}), Decision(2, {2: 8.0, 3: 7.0}), Decision(4, {})]
    assert first_difference(plain, [1, 2, 4]) is None
    assert first_difference(plain, [1, 3, 9]) == pytest.approx(1 / 8)
    assert first_difference(plain, [5, 2, 4]) == float("inf")  # the token was forced
    assert first_difference(plain, [1, 2]) == float("inf")
    assert first_difference(plain, [1, 2, 4, 4]) == float("inf")


@pytest.mark.parametrize(
    ("margins", "precision", "met"),
    [
        ([], "float32", True),
        ([0.001], "float32", False),
        ([0.03], "bfloat16", True),
        ([0.1], "bfloat16", False),
    ],
)
def test_margins_are_judged(margins, precision, met):
    row = verdict(4, 100, margins, precision, "here")
    assert row.met is met
    assert f"{8 - len(margins)} of 8" in row.found


def test_every_way_to_generate_gives_the_same_text(build, encoder, example):
    from rows.generators import generators

    model = build("llama", 3)
    chosen = [example("Pt denies chest pain and severe nausea."), example("no fever"), example("chest pain")]
    for size in (1, 2):
        ways = generators(model, encoder, chosen, [12, 5, 9], size)
        texts = {name: way() for name, way in ways.items()}
        assert len(texts) == (3 if size == 1 else 2)
        assert all(found == texts[PLAIN] for found in texts.values())
        assert any(texts[PLAIN])


def test_sites_train_at_the_same_time():
    assert Round(30.0, (10.0, 12.0), (1, 1), (1, 1)).fixed_s == 18.0


def test_a_line_says_what_was_not_measured():
    text = line(Row("a | b", "c", "d", target="at least 4", why="no GPU here"))
    assert text == "| a / b | c | d | not measured |  | at least 4 |  | no GPU here |"
    text = line(measured("a", "b", "c", Spread(2.0, 1.234, 3.0), bound=4.0, same="equal"))
    assert text == "| a | b | c | 2 (1.23 to 3) | 4.00 |  |  | equal |"


def test_the_table_of_the_page_is_what_its_json_says():
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    page = PAGE.read_text(encoding="utf-8")
    told = "run: python benchmarks/bench.py --write-docs"
    assert with_part(page, page_part(record, all_jobs())) == page, told


def test_a_page_without_marks_is_refused():
    assert with_part(f"a{BEGIN}x{END}b", "y") == f"a{BEGIN}\ny\n{END}b"
    with pytest.raises(ValueError, match="must hold"):
        with_part("nothing", "y")


def test_what_is_measured_leaves_the_list_of_what_is_not():
    machine, (first, *_) = describe(), all_jobs()
    row = measured("a", PLAIN, "c", Spread(2.0, 2.0, 2.0))
    job = {"machine": machine, "setting": {}, "seconds": 1.0, "rows": [to_json(row)]}
    text = page_part({"jobs": {first.name: job}}, all_jobs())
    before, after = text.split("Not measured:")
    assert words(machine) in before
    assert line(row) in before
    assert f"`{first.key}`" not in after.split("CPU")[0]
    assert after.count("not measured") == len(all_jobs()) - 1


def test_names_are_unique_and_patterns_choose():
    jobs = all_jobs()
    assert len({job.name for job in jobs}) == len(jobs)
    assert [j.key for j in chosen(jobs, "cpu", "flower,aggregation/10")] == ["aggregation/10", "flower"]
    assert len(chosen(jobs, "cpu", "")) + len(chosen(jobs, "cuda", "")) == len(jobs)
    key = "training/ner/llama-3-8b/bfloat16"  # and not that with Liger's kernels
    assert [j.key for j in chosen(jobs, "cuda", key)] == [key]
    with pytest.raises(ValueError, match="no such row"):
        chosen(jobs, "cpu", "nonsense")


def test_every_row_fits_a_call():
    """A call begins nothing that would not end in time, so a longer one would never be measured."""
    for device, most, of in (("cuda", 12 * 60, sum), ("cpu", 9.5 * 60 / 2, max)):
        needed, trained = [], set()
        for job in chosen(all_jobs(), device, ""):
            needed.append(job.seconds_after(trained))
            trained |= job.adapters
        assert 0 < of(needed) <= most


def test_targets_are_the_ones_asked_for():
    from rows.training import Training

    targets = Training("modifiers", "llama-3-8b", "bfloat16").targets()
    assert targets[PADDED] == Target(least=0.8, of_bound=True)
    assert replace(Setting(), full=True).rounds() == 3

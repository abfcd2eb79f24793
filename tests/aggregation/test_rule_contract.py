"""Every rule against the laws in ``aggregation/rule.py``. A new rule file is picked up by itself."""

import math
import pathlib
import tempfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fedmedlora.aggregation
from fedmedlora.aggregation.combined import Combined, Combines
from fedmedlora.aggregation.needs import Needs
from fedmedlora.aggregation.rule import NOT_RULES, combine, known_rules, load_rule
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.exchange.local import Local
from fedmedlora.exchange.stored import StoredArrays
from fedmedlora.exchange.update import SiteUpdate

RULES = known_rules()
# Rules that a setting makes another one.
VARIANTS = {"norm_clipping once": ("norm_clipping", {"around": "current"})}
FACTORS = {"m.lora_A.weight": (1, 2), "m.lora_B.weight": (2, 1)}
SHAPES = {"a": (2, 3), "b": (2,), "scalar": (), **FACTORS}
MAX = float(np.finfo(np.float32).max)
AWKWARD = [0.0, -0.0, 1e-45, -1e-45, 1.1754942e-38, MAX, -MAX, 1.0, 1.0000001, 0.1]

numbers = st.one_of(st.sampled_from(AWKWARD), st.floats(width=32, allow_nan=False, allow_infinity=False))
NUM = sum(math.prod(shape) for shape in SHAPES.values())


def split(flat):
    """All numbers of an adapter, cut into its arrays: drawn at once, which is quicker."""
    ends = np.cumsum([math.prod(shape) for shape in SHAPES.values()])
    parts = np.split(flat, ends[:-1])
    return Adapter({n: part.reshape(s) for (n, s), part in zip(SHAPES.items(), parts, strict=True)})


adapters = hnp.arrays(np.float32, NUM, elements=numbers).map(split)
LAW = settings(max_examples=30, deadline=None)
sizes = st.integers(1, 2**53)
losses = st.floats(0.0, 50.0)


def load(name):
    rule, of_it = VARIANTS.get(name, (name, None))
    return load_rule(rule, of_it)


def update(site, adapter, current, tokens=10, loss=1.0, round_num=2):
    return SiteUpdate(site, round_num, adapter, current.hash(), tokens, loss)


@st.composite
def rounds(draw, least=1):
    """(current, updates): up to five sites in an order of their own, some of which trained on nothing."""
    current = draw(adapters)
    names = draw(st.permutations(["a", "B", "c", "d-1", "e"]))[: draw(st.integers(least, 5))]
    found = [
        update(name, draw(adapters), current, draw(st.one_of(st.just(0), sizes)), draw(losses))
        for name in names
    ]
    assume(any(one.num_target_tokens for one in found))
    return current, found


@pytest.fixture(params=RULES)
def rule(request):
    return load_rule(request.param)


pytestmark = pytest.mark.parametrize("name", [*RULES, *VARIANTS])


def test_every_file_of_the_folder_is_a_rule_or_known_not_to_be(name):
    folder = pathlib.Path(fedmedlora.aggregation.__file__).parent
    files = {file.stem for file in folder.glob("*.py")} - {"__init__"}
    assert files == set(RULES) | NOT_RULES
    assert VARIANTS.get(name, (name,))[0] in files


@LAW
@given(round_=rounds())
def test_names_and_shapes_stay(name, round_):
    current, updates = round_
    assert load(name).aggregate(current, updates).shapes() == SHAPES == current.shapes()


@LAW
@given(current=adapters, own=adapters, tokens=sizes, loss=losses)
def test_one_site_alone_gets_its_own_adapter_back(name, current, own, tokens, loss):
    alone = [update("only", own, current, tokens, loss)]
    rule = load(name)
    assert rule.weights(alone) == {"only": 1.0}
    assert rule.aggregate(current, alone) == own  # equality of adapters is bit for bit


@LAW
@given(round_=rounds())
def test_unchanged_adapters_leave_the_current_one_unchanged(name, round_):
    current, updates = round_
    same = [replace(one, adapter=current) for one in updates]
    assert load(name).aggregate(current, same) == current


@LAW
@given(round_=rounds(least=2), data=st.data())
def test_the_order_of_sites_does_not_matter(name, round_, data):
    current, updates = round_
    other = data.draw(st.permutations(updates))
    rule = load(name)
    assert rule.aggregate(current, other) == rule.aggregate(current, updates)
    assert rule.weights(other) == rule.weights(updates)


@LAW
@given(round_=rounds(), data=st.data())
def test_folding_one_by_one_gives_the_same_in_any_order(name, round_, data):
    current, updates = round_
    rule = load(name)
    fold = rule.fold(current)
    if fold is None:
        assert rule.needs.validation or isinstance(rule, Combines)  # nothing else has to wait for all
        return
    for one in data.draw(st.permutations(updates)):
        fold.add(one)
    assert fold.finish() == (rule.weights(updates), rule.aggregate(current, updates))


@settings(max_examples=20, deadline=None)
@given(round_=rounds())
def test_updates_on_the_disk_give_the_same(name, round_):
    current, updates = round_
    rule = load(name)
    with tempfile.TemporaryDirectory() as folder:
        stored = [
            replace(
                one, adapter=Adapter.stored(StoredArrays(pathlib.Path(folder) / one.site, one.adapter.arrays))
            )
            for one in updates[1:]
        ]
        assert rule.weights([updates[0], *stored]) == rule.weights(updates)
        assert rule.aggregate(current, [updates[0], *stored]) == rule.aggregate(current, updates)


@LAW
@given(round_=rounds())
def test_inputs_are_not_changed(name, round_):
    current, updates = round_
    before = current.hash(), [one.to_bytes() for one in updates], list(updates)
    load(name).aggregate(current, updates)
    assert (current.hash(), [one.to_bytes() for one in updates], list(updates)) == before


@LAW
@given(round_=rounds())
def test_the_same_input_gives_the_same_result(name, round_):
    current, updates = round_
    np.random.seed(1)
    first = load(name).aggregate(current, updates)
    np.random.seed(2)
    assert load(name).aggregate(current, updates) == first


@LAW
@given(round_=rounds())
def test_weights_are_shares_of_the_sites_that_sent_an_update(name, round_):
    _, updates = round_
    weights = load(name).weights(updates)
    assert weights.keys() == {one.site for one in updates}
    assert all(0.0 <= weight <= 1.0 for weight in weights.values())
    assert sum(weights.values()) == pytest.approx(1.0, abs=1e-12)
    assert all(weights[one.site] == 0.0 for one in updates if one.num_target_tokens == 0)


@LAW
@given(round_=rounds())
def test_what_a_rule_finds_in_one_go_is_the_same(name, round_):
    current, updates = round_
    rule = load(name)
    found = combine(rule, current, updates)
    assert found == Combined(rule.weights(updates), rule.aggregate(current, updates), found.figures)
    assert all(isinstance(value, float) and np.isfinite(value) for value in found.figures.values())
    assert not found.figures or isinstance(rule, Combines)


@LAW
@given(round_=rounds())
def test_the_result_lies_between_the_sites(name, round_):
    current, updates = round_
    rule = load(name)
    found = rule.aggregate(current, updates)
    # Where products are averaged, their factors may be any that give the right product.
    keys = [key for key in SHAPES if key not in FACTORS or not isinstance(rule, Combines)]
    # What is clipped once lies nearer to where it started.
    more = [current] if name == "norm_clipping once" else []
    for key in keys:
        stack = np.stack([one.arrays[key] for one in (*(u.adapter for u in updates), *more)])
        assert (found.arrays[key] >= stack.min(axis=0)).all()
        assert (found.arrays[key] <= stack.max(axis=0)).all()


CURRENT = Adapter({"w": np.array([1.0, 2.0], dtype=np.float32)})
GOOD = update("a", CURRENT, CURRENT)


def changed(**arrays):
    return replace(GOOD, site="b", adapter=Adapter({k: np.array(v, np.float32) for k, v in arrays.items()}))


def each_way(rule, current, updates):
    """The calls that take ``updates``: all at once and, where the rule folds, one by one."""

    def one_by_one():
        fold = rule.fold(current)
        for one in updates:
            fold.add(one)
        fold.finish()

    ways = [lambda: rule.aggregate(current, updates)]
    return [*ways, one_by_one] if rule.fold(CURRENT) is not None else ways


@pytest.mark.parametrize(
    ("updates", "message"),
    [
        ([], "no updates"),
        ([GOOD, GOOD], "two updates of site 'a'"),
        ([GOOD, replace(GOOD, adapter=CURRENT, num_target_tokens=3)], "two updates of site 'a'"),
        ([GOOD, replace(GOOD, site="b", round_num=3)], r"different rounds \[2, 3\]"),
        ([replace(GOOD, num_target_tokens=0)], "no site trained on any target token"),
        (
            [replace(GOOD, num_target_tokens=0), replace(GOOD, site="b", num_target_tokens=0)],
            "no site trained on any target token",
        ),
        (
            [GOOD, replace(GOOD, site="b", started_from="0" * 64)],
            "'b' started from adapter 000000000000",
        ),
        ([GOOD, changed(v=[1.0, 2.0])], "has an array that the current adapter lacks: 'v'"),
        ([GOOD, changed(w=[1.0, 2.0], v=[1.0])], "has an array that the current adapter lacks: 'v'"),
        ([GOOD, changed(w=[[1.0, 2.0]])], r"shape \(1, 2\), the current adapter has \(2,\)"),
        ([GOOD, changed(w=[1.0])], "same rank"),
        ([GOOD, changed(w=[np.nan, 2.0])], "update of 'b': array 'w' holds NaN or infinity"),
        ([GOOD, changed(w=[1.0, -np.inf])], "update of 'b': array 'w' holds NaN or infinity"),
        (
            [GOOD, replace(changed(w=[np.nan, 2.0]), num_target_tokens=0)],
            "update of 'b': array 'w' holds NaN or infinity",
        ),
    ],
)
def test_what_cannot_be_aggregated_is_refused(name, updates, message):
    for way in each_way(load(name), CURRENT, updates):
        with pytest.raises(ValueError, match=message):
            way()


def test_a_missing_array_is_refused(name):
    current = Adapter({"v": np.zeros(1, np.float32), "w": np.zeros(1, np.float32)})
    lacking = replace(update("b", current, current), adapter=Adapter({"w": np.zeros(1, np.float32)}))
    for way in each_way(load(name), current, [update("a", current, current), lacking]):
        with pytest.raises(ValueError, match="update of 'b' lacks array 'v'"):
            way()


def test_a_current_adapter_that_diverged_is_refused(name):
    current = Adapter({"w": np.array([np.nan], np.float32)})
    for way in each_way(load(name), current, [update("a", current, current)]):
        with pytest.raises(ValueError, match="current adapter: array 'w'"):
            way()


def test_a_rule_is_a_frozen_value(name):
    rule = load(name)
    assert rule == load(name)
    assert hash(rule) == hash(load(name))
    assert isinstance(rule.needs, Needs)
    assert isinstance(rule.local, Local)
    with pytest.raises((AttributeError, TypeError)):
        rule.gamma = 3.0


def test_a_rule_that_needs_validation_refuses_updates_without_it(name):
    rule = load(name)
    bare = [replace(GOOD, validation_loss=None), replace(GOOD, site="b")]
    if rule.needs.validation:
        with pytest.raises(ValueError, match="'a' has no validation loss"):
            rule.aggregate(CURRENT, bare)
    else:
        assert rule.aggregate(CURRENT, bare) == CURRENT

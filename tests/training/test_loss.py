"""The loss, on logits made by hand."""

from __future__ import annotations

import math

import pytest
import torch

from fedmedlora.model.tokens import TokenExample
from fedmedlora.training.loss import LossTotals, loss_share, loss_totals


def case(target, choices) -> TokenExample:
    return TokenExample(None, (9,), (8,), tuple(target), tuple(choices))


# Vocabulary of 4. Target tokens 2, 0, 3; at the first, 2 competes with 1; at the second, 0 with 1 and 3.
FIRST = case((2, 0, 3), ((2, 1), (0, 1, 3), ()))
SECOND = case((1,), ((),))
LN = math.log
# Logits are logarithms, so softmax is a ratio of small whole numbers.
LOGITS = torch.tensor(
    [
        [LN(1), LN(1), LN(3), LN(5)],  # token 2: 3/10 of all, 3/4 against token 1
        [LN(2), LN(1), LN(7), LN(2)],  # token 0: 2/12 of all, 2/5 against tokens 1 and 3
        [LN(1), LN(1), LN(1), LN(1)],  # token 3: 1/4 of all, forced
        [LN(1), LN(8), LN(1), LN(6)],  # token 1: 8/16 of all, forced
    ]
)
LM = -(LN(3 / 10) + LN(2 / 12) + LN(1 / 4) + LN(8 / 16)) / 4
DECISION = -(LN(3 / 4) + LN(2 / 5)) / 2


def share(logits, examples, totals, loss, weight=1.0) -> float:
    return loss_share(logits, examples, totals, loss=loss, decision_weight=weight).item()


def test_totals():
    assert loss_totals([FIRST, SECOND]) == LossTotals(num_tokens=4, num_decisions=2)
    assert loss_totals([]) == LossTotals(0, 0)


@pytest.mark.parametrize(
    ("loss", "weight", "expected"),
    [
        ("lm", 0.5, LM),
        ("decision", 0.5, DECISION),  # the weight belongs to the sum only
        ("lm+decision", 0.5, LM + 0.5 * DECISION),
        ("lm+decision", 0.0, LM),
    ],
)
def test_by_hand(loss, weight, expected):
    both = [FIRST, SECOND]
    assert share(LOGITS, both, loss_totals(both), loss, weight) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", ["lm", "decision", "lm+decision"])
def test_mean_over_the_whole_step_however_it_is_cut(loss):
    totals = loss_totals([FIRST, SECOND])
    whole = share(LOGITS, [FIRST, SECOND], totals, loss)
    parts = share(LOGITS[:3], [FIRST], totals, loss) + share(LOGITS[3:], [SECOND], totals, loss)
    assert parts == pytest.approx(whole, rel=1e-6)
    # And not the mean of the parts' own means:
    own = share(LOGITS[:3], [FIRST], loss_totals([FIRST]), loss)
    own += share(LOGITS[3:], [SECOND], loss_totals([SECOND]), loss)
    if loss != "decision":  # the second has no decision of its own
        assert own / 2 != pytest.approx(whole, rel=1e-3)


def test_decision_gradient_reaches_open_tokens_only():
    logits = LOGITS.clone().requires_grad_(True)
    totals = loss_totals([FIRST, SECOND])
    loss_share(logits, [FIRST, SECOND], totals, loss="decision", decision_weight=1.0).backward()
    touched = {(r, c) for r, c in logits.grad.nonzero().tolist()}
    assert touched == {(0, 2), (0, 1), (1, 0), (1, 1), (1, 3)}
    # d/dlogit of -log softmax: p - 1 at gold, p elsewhere, over the two decisions.
    assert logits.grad[0, 2].item() == pytest.approx((3 / 4 - 1) / 2)
    assert logits.grad[1, 3].item() == pytest.approx((2 / 5) / 2)


def test_the_order_of_rivals_does_not_matter():
    turned = case((2, 0, 3), ((2, 1), (0, 3, 1), ()))
    totals = loss_totals([FIRST])
    assert share(LOGITS[:3], [turned], totals, "decision") == pytest.approx(
        share(LOGITS[:3], [FIRST], totals, "decision")
    )


def test_without_decisions_the_sum_is_the_language_models_loss():
    """A form that copies nothing leaves no token open."""
    plain = case((2, 0, 3), ((), (), ()))
    totals = loss_totals([plain])
    assert totals == LossTotals(3, 0)
    found = [
        loss_share(LOGITS[:3], [plain], totals, loss=loss, decision_weight=7.0)
        for loss in ("lm", "lm+decision")
    ]
    assert found[0] == found[1]

"""What the form of answers asks of a study's other settings."""

from __future__ import annotations

import pytest

from fedmedlora.study import parse_study

SMALL = """\
name = "s"
methods = ["zero_shot", "fed_medlora"]
[[sites]]
name = "a"
train = "a.jsonl"
test = "t.jsonl"
"""
TAGS = '[tasks]\nform = "tags"\n'
VALIDATION = '[validation]\nnotes = ["v.jsonl"]\n'


def test_a_form_without_decisions_has_the_language_models_loss():
    study, notices = parse_study(SMALL + '[tasks]\nform = "json"\n')
    assert notices == ()
    assert study.training.loss == "lm+decision"
    assert study.loss() == "lm"
    assert parse_study(SMALL)[0].loss() == "lm+decision"
    with pytest.raises(
        ValueError, match=r'\[training\] loss: "decision" .* form "json" copies nothing; set loss = "lm"'
    ):
        parse_study(SMALL + '[tasks]\nform = "json"\n[training]\nloss = "decision"')
    for written in ('loss = "lm+decision"', "decision_weight = 2.0"):
        _, notices = parse_study(SMALL + f'[tasks]\nform = "json"\n[training]\n{written}')
        assert notices == (
            f'[training] {written.split(" ")[0]}: no effect, form json leaves no decisions; the loss is "lm"',
        )
    assert parse_study(SMALL + '[tasks]\nform = "json"\n[training]\nloss = "lm"')[1] == ()


def test_a_form_of_decisions_alone_has_their_loss():
    study, notices = parse_study(SMALL + TAGS)
    assert notices == ()
    assert study.loss() == "decision"
    assert not study.reads_under_grammar()
    assert parse_study(SMALL + TAGS + '[training]\nloss = "decision"')[1] == ()
    for written in ('loss = "lm+decision"', "decision_weight = 2.0"):
        _, notices = parse_study(SMALL + TAGS + f"[training]\n{written}")
        key = written.split(" ")[0]
        assert notices == (
            f'[training] {key}: no effect, form tags generates no text; the loss is "decision"',
        )
    _, notices = parse_study(SMALL + TAGS + "[evaluation]\nzero_shot_free = true\n")
    assert notices == ("[evaluation] zero_shot_free: no effect, form tags has nothing to generate",)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (SMALL + TAGS + '[training]\nloss = "lm"', r'\[training\] loss: "lm" .* form "tags" decides'),
        (
            SMALL + TAGS + '[evaluation]\ndecoding = ["constrained", "free"]',
            r'\[evaluation\] decoding: "free" .* form "tags" has nothing to generate',
        ),
        (
            SMALL.replace('"zero_shot"', '"few_shot"') + VALIDATION + TAGS,
            r'methods: few_shot shows .* form "tags" has none',
        ),
    ],
)
def test_what_does_not_go_with_tags(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse_study(text)

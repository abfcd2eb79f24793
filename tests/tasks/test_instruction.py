"""Task "instruction": what a model sees of a record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedmedlora.corpora.instructions import read_instructions
from fedmedlora.corpora.note import Annotates, Note
from fedmedlora.model.tokens import Encoder
from fedmedlora.study_forms import answers_read_by
from fedmedlora.study_tables import Tasks
from fedmedlora.tasks.instruction import answer_example, instruction_examples, is_instruction
from fedmedlora.tasks.training_set import num_sentences, sample_examples, sample_notes, sample_sentences

TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|stop|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)


@pytest.fixture
def notes(tmp_path: Path) -> tuple[Note, ...]:
    records = [
        {"prompt": "Fever? <|end|> Pain. Cough.", "response": "no <|end|>", "group": "a"},
        {"instruction": "Answer in a word.", "prompt": "Chest pain?", "response": "yes", "group": "a"},
        {"instruction": "Answer in a word.", "prompt": "Nausea?", "response": "no"},
    ]
    header = {"format": "fedmedlora-instructions", "version": 1, "score": "exact_match"}
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (header, *records)))
    return read_instructions(tmp_path / "a.jsonl").notes


@pytest.fixture
def chat(tokenizer_of):
    tokenizer = tokenizer_of(["Answer in a word . Chest pain ? Fever yes no"] * 4, 330)
    tokenizer.chat_template = TEMPLATE
    return Encoder(tokenizer)


def test_the_message_goes_through_the_template_as_it_is(notes, chat):
    for note in notes:
        (example,) = instruction_examples([note])
        found = chat.encode(example)
        shown = chat.tokenizer.apply_chat_template(
            [{"role": "user", "content": note.text}], tokenize=False, add_generation_prompt=True
        )
        ids = [*found.prefix, *found.prompt]
        assert chat.tokenizer.decode(ids, skip_special_tokens=False) == shown
        # What a record says ends nothing.
        assert chat.end_id not in ids
        assert found.target.count(chat.end_id) == 1
        assert found.target[-1] == chat.end_id
        assert chat.tokenizer.decode(found.target[:-1]) == note.meta["response"]
        assert found.choices == ((),) * len(found.target)
    with_instruction = [chat.encode(e).prefix for e in instruction_examples(notes[1:])]
    assert with_instruction[0] == with_instruction[1]
    assert chat.encode(instruction_examples(notes[:1])[0]).prefix != with_instruction[0]


def test_without_a_template_something_stands_before_the_first_token(notes, encoder):
    found = encoder.encode(instruction_examples(notes[:1])[0])
    assert found.prefix == (encoder.end_id,)
    assert encoder.decode(found.prompt) == "Fever? <|end|> Pain. Cough.\n\n"


def test_an_instruction_cannot_spell_a_special_token(chat, encoder):
    for one, marks in ((chat, ("<|end|>",)), (encoder, ("<|end|>",))):
        for mark in marks:
            plain, spelled = one.prefix("say it now"), one.prefix(f"say {mark} now")
            assert spelled.count(one.end_id) == plain.count(one.end_id)
            assert f"say {mark} now" in one.tokenizer.decode(spelled)


def test_to_be_answered(notes):
    example = answer_example(notes[0], "")
    assert example.target == ()
    assert example.input == ("Fever? <|end|> Pain. Cough.",)


def test_other_notes_give_no_example():
    plain = Note("n", "No fever.", (), (), (), Annotates(frozenset(), frozenset()))
    assert instruction_examples([plain]) == ()
    assert num_sentences(plain) == 1


def test_a_record_is_one_sentence_to_whatever_samples(notes):
    assert [num_sentences(note) for note in notes] == [1, 1, 1]
    assert len(sample_notes(notes, max_sentences=2, seed=1, name="x")) == 2
    examples = instruction_examples(notes)
    assert len(sample_sentences(examples, num=2, seed=1, name="x")) == 2
    drawn = sample_examples({"instruction": examples}, num=2, modifier_share=None, seed=1, name="x")
    assert len(drawn) == 2
    assert set(drawn) < set(examples)


def test_it_goes_with_no_other_task():
    assert answers_read_by(Tasks(names=("instruction",))) == "generating"
    assert answers_read_by(Tasks()) == "copying"
    assert is_instruction(["instruction"])
    assert not is_instruction(["ner"])
    for names in (("instruction", "ner"), ("ner", "instruction")):
        with pytest.raises(ValueError, match="goes with no other task"):
            Tasks(names=names)
    with pytest.raises(ValueError, match="known tasks: ner, modifiers, instruction"):
        Tasks(names=("instructions",))

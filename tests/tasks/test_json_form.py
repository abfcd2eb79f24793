"""The JSON form by hand: what it says, and what it takes an answer for."""

import json

import pytest

from fedmedlora.corpora.note import Entity
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.forms import json as form
from fedmedlora.tasks.grounding import sentence
from fedmedlora.tasks.kinds import modifiers
from fedmedlora.tasks.loose_json import MAX_BROKEN, MAX_CHARACTERS, Item, read_items
from fedmedlora.tasks.markup import REASONS, Mention
from fedmedlora.tasks.pieces import pieces

TEXT = 'Denies pain; painful knee, "pain" & <5 pain.'
#       0      7     13            27       36 39
CUT = pieces(TEXT, 0, len(TEXT))
LABELS = ("problem", "negation")


def entity(label: str, *spans: tuple[int, int]) -> Entity:
    return Entity("T1", label, spans)


def rendered(*entities: Entity) -> str:
    target, unplaced = form.render(CUT, entities, LABELS)
    assert unplaced == ()
    return "".join(target)


def read(answer: str, text: str = TEXT, labels: tuple[str, ...] = LABELS):
    cut = pieces(text, 0, len(text))
    return form.read(Example("n/0", "n", "ner", "", (), cut, labels, (), form="json"), answer)


def test_in_order_of_appearance_and_compact() -> None:
    given = (entity("problem", (13, 25)), entity("negation", (0, 6)), entity("problem", (7, 11)))
    assert rendered(*given) == (
        '[{"type":"negation","text":"Denies"},{"type":"problem","text":"pain"},'
        '{"type":"problem","text":"painful knee"}]'
    )
    assert rendered() == "[]"


def test_places_of_one_text_are_numbered() -> None:
    # Words first: 7, 28, 39; then the beginning of "painful", at 13.
    assert sentence(CUT).places("pain") == (7, 28, 39, 13)
    assert rendered(entity("problem", (28, 32))) == '[{"type":"problem","text":"pain","nth":2}]'
    assert rendered(entity("problem", (13, 17))) == '[{"type":"problem","text":"pain","nth":4}]'
    assert rendered(entity("problem", (27, 33))) == '[{"type":"problem","text":"\\"pain\\""}]'
    assert sentence(CUT).places("") == ()
    assert sentence(()).places("a") == ()
    assert sentence(pieces("aaa", 0, 3)).places("a") == (0, 1, 2)


def test_nested_and_crossing_can_be_said() -> None:
    nested = (entity("problem", (13, 25)), entity("problem", (21, 25)), entity("negation", (13, 25)))
    assert [r["text"] for r in json.loads(rendered(*nested))] == ["painful knee", "painful knee", "knee"]
    crossing = (entity("problem", (7, 20)), entity("problem", (13, 25)))
    assert len(json.loads(rendered(*crossing))) == 2


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (entity("drug", (7, 11)), "not asked for"),
        (entity("problem", (7, 9), (10, 11)), "discontinuous"),
        (entity("problem", (7, 7)), "empty"),
        (entity("problem", (7, 99)), "outside the sentence"),
        (entity("problem", (6, 11)), "begins or ends with white space"),
    ],
)
def test_what_it_cannot_say(given: Entity, reason: str) -> None:
    target, unplaced = form.render(CUT, (given,), LABELS)
    assert (target, unplaced) == (("[]",), ((given, reason),))
    assert reason in REASONS
    twice = (entity("problem", (7, 11)), Entity("T2", "problem", ((7, 11),)))
    assert form.render(CUT, twice, LABELS)[1] == ((twice[1], "duplicate"),)


def test_an_input_is_the_text_itself_with_marks() -> None:
    marked = modifiers.marked(CUT, [entity("problem", (13, 25))])
    assert "".join(form.written(marked)) == 'Denies pain;{problem: painful knee}, "pain" & <5 pain.'
    target, _ = form.render(marked, (entity("negation", (7, 25)),), LABELS)
    assert json.loads(target[0])[0]["text"] == "pain; painful knee", "the marks are no part of a text"
    found = form.read(Example("n/0", "n", "modifiers", "", (), marked, LABELS, (), form="json"), target[0])
    assert found.mentions == (Mention("negation", 7, 25),)


PAIN, SECOND = Mention("problem", 7, 11), Mention("problem", 28, 32)


@pytest.mark.parametrize(
    ("answer", "mentions", "complete", "num_ungrounded"),
    [
        ("[]", (), True, 0),
        ('[{"type":"problem","text":"pain"}]', (PAIN,), True, 0),
        (' [ {"text": "pain", "type": "problem"} ] ', (PAIN,), True, 0),
        ('```json\n[{"type":"problem","text":"pain"},]\n```\nI hope this helps.', (PAIN,), True, 0),
        ("[{'type': 'problem', 'text': 'pain'}]", (PAIN,), True, 0),
        ('{"mentions": [{"type":"problem","text":"pain"}]}', (PAIN,), True, 0),
        ('[{"type":"problem","text":" pain "}]', (PAIN,), True, 0),
        ('[{"type":"problem","text":"pain","score":0.5}]', (PAIN,), True, 0),
        # said again without a number: the next place; more often than it is there: nothing more
        ('[{"type":"problem","text":"pain"},{"type":"problem","text":"pain"}]', (PAIN, SECOND), True, 0),
        ("[" + '{"type":"problem","text":"knee"},' * 9 + "]", (Mention("problem", 21, 25),), True, 0),
        ('[{"type":"problem","text":"pain","nth":2}]', (SECOND,), True, 0),
        ('[{"type":"problem","text":"pain","nth":"2"}]', (SECOND,), True, 0),
        # cut off, broken: what is whole is kept
        ('[{"type":"problem","text":"pain"},{"type":"probl', (PAIN,), False, 0),
        ('[{"type":"problem","text":"pain"}', (PAIN,), False, 0),
        ('[{"type":"problem"},{"type":"problem","text":"pain"}]', (PAIN,), False, 0),
        ('[{"type":"problem","text":["pain"]},{"type":"problem","text":"pain"}]', (PAIN,), False, 0),
        ('[{"type":"problem","text":"pain","nth":-1}]', (PAIN,), False, 0),
        ('[{"type":"problem","text":"pain","nth":null}]', (PAIN,), False, 0),
        ('{"type":"problem","text":"pain"}\n{"type":"problem","text":"pain"}', (PAIN, SECOND), False, 0),
        ("I see no problem here.", (), False, 0),
        ("", (), False, 0),
        # not asked for
        ('[{"type":"drug","text":"pain"}]', (), False, 0),
        # not there: counted, and nothing is made up for it
        ('[{"type":"problem","text":"Pain"}]', (), True, 1),
        ('[{"type":"problem","text":"gout"},{"type":"problem","text":"pain"}]', (PAIN,), True, 1),
        ('[{"type":"problem","text":"pain","nth":9}]', (), True, 1),
        ('[{"type":"problem","text":""}]', (), True, 1),
        ('[{"type":"problem","text":"pain\\u0000"}]', (), True, 1),
    ],
)
def test_answers(answer: str, mentions: tuple[Mention, ...], complete: bool, num_ungrounded: int) -> None:
    found = read(answer)
    assert (found.mentions, found.complete, found.num_ungrounded) == (mentions, complete, num_ungrounded)


def test_two_types_on_one_text_are_counted_by_themselves() -> None:
    answer = '[{"type":"problem","text":"pain"},{"type":"negation","text":"pain"}]'
    assert read(answer).mentions == (PAIN, Mention("negation", 7, 11))


# --- the loose reader ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "items", "complete"),
    [
        ('[{"type":"a","text":"6" nail"}]', (Item("a", '6" nail'),), True),
        ("[{'type':'a','text':'patient's knee'}]", (Item("a", "patient's knee"),), True),
        (
            '[{"type":"a","text":"\\"b\\" \\\\ \\/ \\n \\u00e9 \\ud83d\\ude00"}]',
            (Item("a", '"b" \\ / \n é 😀'),),
            True,
        ),
        ("[{type: a, text: b}]", (Item("a", "b"),), True),
        ('[{"type":"a" "text":"b"}]', (), False),
        ('[{"type":"a","text":"b"},\n\n,{"type":"a","text":"c"}]', (Item("a", "b"), Item("a", "c")), True),
        ('[x {"type":"a","text":"b"}]', (Item("a", "b"),), False),
        ('see [1]: [{"type":"a","text":"b"}]', (Item("a", "b"),), False),
        ('[][{"type":"a","text":"b"}]', (), True),
        ('[{"type":"a","text":"b","nth":0}]', (Item("a", "b"),), False),
        ('[{"type":"a","text":"b","nth":3}]', (Item("a", "b", 3),), True),
        ("[{}]", (), False),
        ("{", (), False),
        ("]", (), False),
    ],
)
def test_loose_json(text: str, items: tuple[Item, ...], complete: bool) -> None:
    assert read_items(text) == (items, complete)


def test_limits() -> None:
    long = "[" + '{"type":"a","text":"b"},' * (MAX_CHARACTERS // 20) + "]"
    items, complete = read_items(long)
    assert len(items) == MAX_CHARACTERS // 24
    assert not complete
    broken = "[" + '{"type":"a"},' * (MAX_BROKEN + 5) + '{"type":"a","text":"b"}]'
    assert read_items(broken) == ((), False)

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora.corpora.note import Entity
from fedmedlora.tasks import copying
from fedmedlora.tasks.example import Piece
from fedmedlora.tasks.markup import REASONS, Mention, parse, place, render
from fedmedlora.tasks.pieces import has_leading_space, pieces, unescape

LABELS = ("problem", "drug", "test")
FRAGMENTS = [
    "pain",
    " chest pain",
    " 10mg",
    "<problem>",
    "</problem>",
    " <drug>",
    "&lt;",
    "&amp;lt;",
    "<",
    "&",
]
FRAGMENTS += ["\t", "\r\n", "  ", " ", "\n", "é", "e\u0301", "漢字", "-", ".", "a", "\xa0", "😀", "\ud83d"]
texts = st.lists(st.sampled_from(FRAGMENTS), max_size=16).map("".join)


def cut(text: str) -> tuple[Piece, ...]:
    return pieces(text, 0, len(text))


def entity(text: str, label: str, surface: str, name: str = "x") -> Entity:
    start = text.index(surface)
    return Entity(name, label, ((start, start + len(surface)),))


def reasons(text: str, *entities: Entity) -> list[tuple[str, str]]:
    _, unplaced = render(cut(text), entities, LABELS)
    return [(e.id, reason) for e, reason in unplaced]


@st.composite
def annotated(draw: st.DrawFn) -> tuple[str, tuple[Piece, ...], list[Entity]]:
    """A text, the pieces of a range of it, and entities of every kind, most at pieces' boundaries."""
    text = draw(texts)
    first = draw(st.integers(0, len(text)))
    last = draw(st.integers(first, len(text)))
    sentence = pieces(text, first, last)
    starts = [p.start + has_leading_space(p) for p in sentence] or [first]
    ends = [p.end for p in sentence] or [last]
    anywhere = st.integers(0, len(text))
    entities = []
    for i in range(draw(st.integers(0, 8))):
        points = sorted(
            draw(st.sampled_from(starts)) if draw(st.booleans()) else draw(anywhere) for _ in "ab"
        )
        end = draw(st.sampled_from(ends)) if draw(st.booleans()) else points[1]
        span = ((points[0], max(end, points[0])),)
        if draw(st.integers(0, 9)) == 0:
            span += ((span[0][1] + 1, span[0][1] + 2),)
        entities.append(Entity(str(i), draw(st.sampled_from((*LABELS, "treatment"))), span))
    return text, sentence, entities


@settings(max_examples=400)
@given(annotated())
def test_rendering_then_parsing_gives_the_placed_mentions_back(
    case: tuple[str, tuple[Piece, ...], list[Entity]],
) -> None:
    _, sentence, entities = case
    target, unplaced = render(sentence, entities, LABELS)
    lost = {e.id for e, _ in unplaced}
    assert {reason for _, reason in unplaced} <= set(REASONS)
    placed = [Mention(e.type, e.start, e.end) for e in entities if e.id not in lost]
    placed.sort(key=lambda m: (m.start, -m.end, LABELS.index(m.label)))
    assert place(sentence, target) == (tuple(placed), ())
    parsed = parse(sentence, "".join(target), LABELS)
    assert (parsed.output, parsed.mentions, parsed.problems) == (target, tuple(placed), ())
    assert parsed.complete

    state = copying.START  # every target is a path of the copy constraint, to its end
    for step in target:
        assert step in copying.options(state, sentence, LABELS)
        state = copying.advance(state, step)
    assert copying.options(state, sentence, LABELS) == ()
    assert [s for s in target if not copying.is_tag(s)] == [p.form for p in sentence]


@settings(max_examples=300)
@given(texts, st.data())
def test_every_path_of_the_constraint_is_read_back(text: str, data: st.DataObject) -> None:
    sentence = cut(text)
    state, output = copying.START, []
    while choices := copying.options(state, sentence, LABELS):
        step = data.draw(st.sampled_from(choices))
        output.append(step)
        state = copying.advance(state, step)
    mentions, problems = place(sentence, output)
    assert set(problems) <= {"duplicate"}
    parsed = parse(sentence, "".join(output), LABELS)
    assert (parsed.output, parsed.mentions, parsed.complete) == (tuple(output), mentions, True)
    again, unplaced = render(sentence, [Entity("", m.label, ((m.start, m.end),)) for m in mentions], LABELS)
    assert unplaced == ()
    assert set(place(sentence, again)[0]) == set(mentions)


def test_a_tag_goes_before_the_space() -> None:
    text = "no severe pain"
    target, _ = render(cut(text), [entity(text, "problem", "pain")], LABELS)
    assert target == ("no", " severe", "<problem>", " pain", "</problem>")


def test_nested_and_adjacent() -> None:
    text = "left knee pain"
    entities = [
        entity(text, "drug", "knee", "inner"),
        entity(text, "problem", "left knee pain", "outer"),
        entity(text, "test", "pain", "next to it"),
        entity(text, "problem", "pain", "same span, earlier label"),
    ]
    target, unplaced = render(cut(text), entities, LABELS)
    assert unplaced == ()
    assert "".join(target) == (
        "<problem>left<drug> knee</drug><problem><test> pain</test></problem></problem>"
    )


def test_no_pieces_and_no_entities() -> None:
    assert render((), (), LABELS) == ((), ())
    assert render(cut("a b"), (), ()) == (("a", " b"), ())
    assert place((), ()) == ((), ())
    assert parse((), "", LABELS).complete


def test_every_reason() -> None:
    text = "chest pain, non-smoker"
    whole = (0, 10)
    assert reasons(text, Entity("x", "age", (whole,))) == [("x", "not asked for")]
    assert reasons(text, Entity("x", "drug", ((0, 5), (6, 10)))) == [("x", "discontinuous")]
    assert reasons(text, Entity("x", "drug", ((3, 3),))) == [("x", "empty")]
    assert reasons(text, Entity("x", "drug", ((5, 10),))) == [("x", "begins or ends with white space")]
    assert reasons(text, Entity("x", "drug", ((0, 6),))) == [("x", "begins or ends with white space")]
    assert reasons("a\n", Entity("x", "drug", ((0, 2),))) == [("x", "begins or ends with white space")]
    assert reasons(text, Entity("x", "drug", ((1, 5),))) == [("x", "inside a piece")]
    assert reasons(text, Entity("x", "drug", ((0, 4),))) == [("x", "inside a piece")]
    twice = [Entity(i, "drug", (whole,)) for i in "ab"]
    assert reasons(text, *twice) == [("b", "duplicate")]
    crossing = [Entity("late", "drug", ((6, 15),)), Entity("early", "problem", (whole,))]
    assert reasons(text, *crossing) == [("late", "crossing")]
    nested = [Entity(str(n), "drug", ((0, n),)) for n in (5, 10, 11, 15, 16)]  # MAX_DEPTH is 4
    assert reasons(text, *nested) == [("5", "nested too deep")]
    outside, _ = render(pieces(text, 0, 10), [Entity("x", "drug", ((12, 15),))], LABELS), None
    assert outside[1][0][1] == "outside the sentence"
    covered = {"crossing", "nested too deep", "duplicate", "outside the sentence", "discontinuous", "empty"}
    covered |= {"inside a piece", "begins or ends with white space", "not asked for"}
    assert covered == set(REASONS)


def test_crossing_does_not_depend_on_the_order_given() -> None:
    text = "a b c d"
    entities = [
        Entity("1", "drug", ((0, 3),)),
        Entity("2", "test", ((2, 5),)),
        Entity("3", "drug", ((4, 7),)),
    ]
    assert render(cut(text), entities, LABELS)[0] == render(cut(text), entities[::-1], LABELS)[0]
    assert reasons(text, *entities) == [("2", "crossing")]


def test_what_the_end_closes_by_force_ends_before_white_space() -> None:
    output = ("<drug>", "a", "\n", "</drug>")
    assert place(cut("a\n"), output) == ((Mention("drug", 0, 1),), ())


def test_place_reports_what_it_drops() -> None:
    sentence = cut("a b")
    twice = ("<drug>", "<drug>", "a", "</drug>", "</drug>", " b")
    assert place(sentence, twice) == ((Mention("drug", 0, 1),), ("duplicate",))
    assert place(sentence, ("<drug>", "a"))[1] == ("tag not closed",)
    assert place(sentence, ("a", "</drug>"))[1] == ("closing tag without an opening one",)
    assert place(sentence, ("<drug>", "</drug>", "a"))[0] == ()
    assert place(sentence, ("a", " b", "<drug>", " c", "</drug>"))[0] == ()  # more than was to be copied


SENTENCE = "Denies chest pain, took aspirin 10 mg for pain."
PAIN, CHEST = Mention("problem", 42, 46), Mention("problem", 7, 17)
ASPIRIN = Mention("drug", 24, 31)
DEPARTS = "text departs from the sentence"


@pytest.mark.parametrize(
    ("text", "mentions", "problems"),
    [
        ("", (), {DEPARTS}),
        ("<problem>chest pain</problem>", (CHEST,), {DEPARTS}),
        ("<problem>chest  pain</problem>; <drug>aspirin</drug>", (CHEST, ASPIRIN), {DEPARTS}),
        ("Denies <problem>chest pain</problem>, took aspirin 10 mg for pain.", (CHEST,), set()),
        ("Denies chest pain, took aspirin 10 mg for<problem> pain</problem>.\n", (PAIN,), set()),
        ("Denied some chest pain, took aspirin 10 mg for <problem>pain</problem>", (PAIN,), {DEPARTS}),
        ("Denies<problem> chest pain", (), {"tag not closed", DEPARTS}),
        ("Denies<problem> chest pain</problem>, to", (CHEST,), {DEPARTS}),
        ("<drug>heparin</drug>", (), {"tagged text is not in the sentence", DEPARTS}),
        ("<age>chest</age>", (), {"tag was not asked for", DEPARTS}),
        ("</drug>" + SENTENCE, (), {"closing tag without an opening one"}),
        ("Denies<problem></problem> chest pain, took aspirin 10 mg for pain.", (), {"empty element"}),
        (
            "<problem>the <drug>aspirin</drug></problem>",
            (ASPIRIN,),
            {"tagged text is not in the sentence", DEPARTS},
        ),
        ("<drug>took <problem>aspirin</drug> 10</problem>", (Mention("drug", 19, 31),), {
            "tag not closed", "closing tag without an opening one", DEPARTS}),
        ("<drug><drug>aspirin</drug></drug>", (ASPIRIN,), {"duplicate", DEPARTS}),
        ("<drug>" * 6 + "aspirin" + "</drug>" * 6, (ASPIRIN,), {"duplicate", DEPARTS}),
    ],
)  # fmt: skip
def test_damaged_text(text: str, mentions: tuple[Mention, ...], problems: set[str]) -> None:
    parsed = parse(cut(SENTENCE), text, LABELS)
    assert parsed.mentions == mentions
    assert set(parsed.problems) == problems
    assert not parsed.complete
    assert place(cut(SENTENCE), parsed.output)[0] == mentions


def test_text_without_escapes_is_understood() -> None:
    text = "x<5 & y"
    parsed = parse(cut(text), "<test>x<5</test> & y", LABELS)
    assert parsed.mentions == (Mention("test", 0, 3),)
    assert parsed.problems == ()


def test_a_tag_that_the_note_holds_literally_is_text() -> None:
    text = "type <drug> or<drug>here</drug>"
    target, _ = render(cut(text), [entity(text, "test", "here")], LABELS)
    assert "".join(target) == "type <drug> or&lt;drug><test>here</test>&lt;/drug>"
    assert parse(cut(text), "".join(target), LABELS).mentions == (Mention("test", 20, 24),)


wild = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=60),
    st.lists(
        st.sampled_from(
            [*FRAGMENTS, *(t for x in LABELS for t in (f"<{x}>", f"</{x}>")), "<age>", "<", "</"]
        ),
        max_size=40,
    ).map("".join),
)


@settings(max_examples=400)
@given(texts, wild)
def test_parse_never_raises_and_its_output_is_a_path(text: str, written: str) -> None:
    sentence = cut(text)
    parsed = parse(sentence, written, LABELS)
    assert place(sentence, parsed.output)[0] == parsed.mentions
    again = parse(sentence, "".join(parsed.output), LABELS)
    assert again.complete
    assert again.mentions == parsed.mentions
    for mention in parsed.mentions:
        assert not text[mention.start].isspace()
        assert not text[mention.end - 1].isspace()
    if parsed.complete:
        assert unescape("".join(s for s in parsed.output if not copying.is_tag(s))) == text


@settings(max_examples=100)
@given(annotated(), st.integers(0, 200))
def test_cut_short_what_was_closed_is_kept(
    case: tuple[str, tuple[Piece, ...], list[Entity]], keep: int
) -> None:
    _, sentence, entities = case
    target, _ = render(sentence, entities, LABELS)
    written = "".join(target[:keep])
    closed = sum(step.startswith("</") for step in target[:keep])
    assert len(parse(sentence, written, LABELS).mentions) == closed


@pytest.mark.parametrize(
    "written",
    ["<drug>" * 20_000, "</drug>" * 20_000, "<drug>x" * 20_000, "<drug>aspirin</drug> " * 20_000,
     "x " * 50_000, "<drug>" * 20_000 + "aspirin" + "</drug>" * 20_000,
     "<drug><test>" * 9_000 + "</drug>" * 9_000,
     "<drug>a " * 5_000 + "</drug>" * 5_000, SENTENCE * 1_000],
    ids=["opened", "closed", "unclosed", "repeated", "other", "deep", "out of order", "long", "copies"],
)  # fmt: skip
def test_huge_text_is_read_in_reasonable_time(written: str) -> None:
    parsed = parse(cut(SENTENCE), written, LABELS)
    assert not parsed.complete


def test_a_literal_tag_of_the_note_is_not_reported_as_one_that_was_not_asked_for() -> None:
    parsed = parse(cut("type <age> here"), "<test>type</test>  <age> here", LABELS)
    assert (parsed.mentions, parsed.problems) == ((Mention("test", 0, 4),), ())

from rich.style import Style
from rich.text import Text

from fedmedlora.corpora.note import Annotates, Entity, Note
from fedmedlora.corpora.schema import CLINICAL
from fedmedlora.tasks.example import Example
from fedmedlora.tasks.kinds import ner
from fedmedlora.tasks.show import show

ALL = Annotates(frozenset(CLINICAL.entities), frozenset(CLINICAL.pair_names()))
NOTE = Note("n", "no [b]pain", (Entity("a", "problem", ((6, 10),)),), (), (), ALL)


def example(with_gold: bool = True) -> Example:
    return ner.examples(NOTE, ((0, 10),), CLINICAL, prompt_set="short", with_gold=with_gold).examples[0]


def style_at(view: Text, part: str, last: bool = True) -> Style:
    place = view.plain.rindex(part) if last else view.plain.index(part)
    found = Style()
    for span in view.spans:
        if span.start <= place < span.end:
            found += Style.parse(str(span.style))
    return found


def test_prompt_is_dim_target_is_marked_tags_are_coloured() -> None:
    view = show(example())
    shown, legend = view.plain.rsplit("\n\n", 1)
    assert shown == example().instruction + "no [b]pain\n\nno [b]<problem>pain</problem>"  # no rich markup
    assert style_at(view, "Copy").dim
    assert style_at(view, "<problem>").underline
    assert style_at(view, "<problem>").color is not None
    assert style_at(view, "pain</").underline
    assert style_at(view, "pain</").color is None
    assert "n/0 · task ner" in legend
    assert "2 tags in the target" in legend
    assert all(label in legend for label in CLINICAL.entities)


def test_the_mask_of_the_tokens_is_what_is_marked() -> None:
    view = show(example(), [("Copy no", False), ("<problem>", True), (" pain", True), ("\n", False)])
    assert view.plain.startswith("Copy no<problem> pain\n")
    assert style_at(view, "Copy", last=False).dim
    tag = style_at(view, "<problem>", last=False)
    assert tag.underline
    assert tag.color is not None
    assert tag.bgcolor is not None  # every second token
    assert style_at(view, " pain", last=False).bgcolor is None
    assert "2 of 4 tokens supervised" in view.plain


def test_without_gold() -> None:
    assert "(no gold)" in show(example(with_gold=False)).plain
    assert "0 of 0 tokens" in show(example(), []).plain


def test_json() -> None:
    asked = ner.examples(NOTE, ((0, 10),), CLINICAL, prompt_set="short", form="json", with_gold=True)
    view = show(asked.examples[0])
    target = '[{"type":"problem","text":"pain"}]'
    assert view.plain.rsplit("\n\n", 1)[0].endswith(f"no [b]pain\n\n{target}")
    assert style_at(view, target).underline
    assert "34 characters of json in the target" in view.plain


def test_tags() -> None:
    asked = ner.examples(NOTE, ((0, 10),), CLINICAL, prompt_set="short", form="tags", with_gold=True)
    view = show(asked.examples[0])
    assert view.plain.rsplit("\n\n", 1)[0].endswith("no [b]pain\n\n - - - - problem")
    assert style_at(view, " problem", last=False).color is None  # in the instruction
    assert style_at(view, " - problem").underline
    assert "5 words decided behind them" in view.plain
    seen = show(asked.examples[0], [("no", False), ("<->", True), (" pain", False), ("<problem>", True)])
    assert style_at(seen, "<problem>", last=False).color is not None
    assert "tokens supervised" not in seen.plain

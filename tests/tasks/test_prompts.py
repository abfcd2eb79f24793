import re
import shutil
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora.corpora.note import Annotates
from fedmedlora.corpora.schema import CLINICAL, Schema
from fedmedlora.tasks import prompts
from fedmedlora.tasks.form import known_forms
from fedmedlora.tasks.instruction import NAME as INSTRUCTION
from fedmedlora.tasks.prompts import SCOPES, instruction, prompt_sets, prompts_hash
from fedmedlora.tasks.task import known_tasks

TASKS = known_tasks()

EVERYTHING = Annotates(frozenset(CLINICAL.entities), frozenset(CLINICAL.pair_names()))
# Words that are also labels in plain English ("form", "test", "course") do not name a type by themselves.
NAMED = {"study": r"(?m)^- (\w+)(?=:|$)", "short": r"(?:[:,] )(\w+)(?= \(|,|\.)"}


def named(prompt_set: str, text: str) -> list[str]:
    """The labels that a prompt lists with their definitions, in order."""
    block = text.split("\n\n")[0] if prompt_set == "study" else re.sub(r"\([^)]*\)", "()", text)
    return re.findall(NAMED[prompt_set], block)


@given(st.sets(st.sampled_from(CLINICAL.entities), min_size=1), st.sampled_from(prompt_sets()))
def test_ner_asks_for_exactly_what_is_annotated(entities: set[str], prompt_set: str) -> None:
    text = instruction("ner", CLINICAL, Annotates(frozenset(entities), frozenset()), prompt_set=prompt_set)
    asked = [e for e in CLINICAL.entities if e in entities]
    assert named(prompt_set, text) == asked
    assert re.findall(r"<(\w+)>", text) == asked == re.findall(r"</(\w+)>", text)


@given(
    st.sets(st.sampled_from(CLINICAL.pair_names()), min_size=1),
    st.sampled_from(prompt_sets()),
    st.sampled_from(SCOPES),
)
def test_modifiers_asks_for_exactly_what_is_annotated(pairs: set[str], prompt_set: str, scope: str) -> None:
    annotates = Annotates(frozenset(CLINICAL.entities), frozenset(pairs))
    text = instruction("modifiers", CLINICAL, annotates, prompt_set=prompt_set, scope=scope)
    asked = [m for m in CLINICAL.modifiers if any(p.endswith("." + m) for p in pairs)]
    assert named(prompt_set, text) == asked
    if prompt_set == "study":
        assert re.findall(r"<(\w+)>", text) == asked
        table = text.split("\n\n")[1].splitlines()[1:]
        rows = dict(line[2:].split(": ") for line in table)
        assert {f"{e}.{m}" for e, ms in rows.items() for m in ms.split(", ")} == pairs


@pytest.mark.parametrize("prompt_set", prompt_sets())
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("scope", SCOPES)
def test_form(prompt_set: str, task: str, scope: str) -> None:
    text = instruction(task, CLINICAL, EVERYTHING, prompt_set=prompt_set, scope=scope)
    assert text == instruction(task, CLINICAL, EVERYTHING, prompt_set=prompt_set, scope=scope)
    assert text.endswith("Sentence:\n")  # the input begins with its first piece
    assert "{" not in text
    assert "}" not in text
    # Words and marks, nearly as many as tokens: SmolLM2's tokenizer counts 252, 723, 73 and 79.
    num_words = len(re.findall(r"\w+|[^\w\s]", text))
    low, high = {
        ("study", "ner"): (200, 300),
        ("study", "modifiers"): (560, 800),
        ("short", "ner"): (50, 100),
        ("short", "modifiers"): (50, 100),
    }[prompt_set, task]
    assert low < num_words < high


@pytest.mark.parametrize("prompt_set", prompt_sets())
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("scope", SCOPES)
def test_json_is_asked_for_as_json(prompt_set: str, task: str, scope: str) -> None:
    """The same labels and definitions as in markup, in the same order, and no word of tags."""
    some = Annotates(frozenset({"test", "drug"}), frozenset({"drug.route", "test.labvalue"}))
    text = instruction(task, CLINICAL, some, prompt_set=prompt_set, scope=scope, form="json")
    asked = ["drug", "test"] if task == "ner" else ["route", "labvalue"]
    assert named(prompt_set, text) == asked
    assert "tag" not in text.lower().replace("stage", "")
    assert "<" not in text
    assert f'[{{"type":"{asked[0]}","text":"..."}}]' in text
    assert text.endswith("Sentence:\n")
    assert (scope == "entity") == ("one entity is" in text or "the entity in" in text) or task == "ner"
    markup = instruction(task, CLINICAL, some, prompt_set=prompt_set, scope=scope)
    assert named(prompt_set, markup) == asked


def test_scopes_differ_in_modifiers_only() -> None:
    one, other = (instruction("modifiers", CLINICAL, EVERYTHING, scope=scope) for scope in SCOPES)
    assert one != other
    one, other = (instruction("ner", CLINICAL, EVERYTHING, scope=scope) for scope in SCOPES)
    assert one == other


def test_every_label_of_the_default_schema_has_a_definition() -> None:
    for task in TASKS:
        text = instruction(task, CLINICAL, EVERYTHING)
        assert not re.search(r"(?m)^- \w+$", text)


def test_a_label_of_another_schema_goes_by_its_name() -> None:
    birds = Schema("birds", ("bird",), ("colour",), (("bird", "colour"),))
    annotates = Annotates(frozenset({"bird"}), frozenset({"bird.colour"}))
    assert "\n- bird\n" in instruction("ner", birds, annotates)
    assert "\n- bird: colour\n" in instruction("modifiers", birds, annotates)


def test_pairs_outside_the_schema_are_not_asked_for() -> None:
    annotates = Annotates(frozenset({"test"}), frozenset({"test.severity", "test.labvalue"}))
    assert named("study", instruction("modifiers", CLINICAL, annotates)) == ["labvalue"]


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("re", {}, "unknown task 're'; known tasks: ner, modifiers"),
        ("ner", {"prompt_set": "long"}, "unknown prompt set 'long'; known: short, study"),
        ("ner", {"prompt_set": "../tasks"}, "unknown prompt set"),
        ("ner", {"form": "../short"}, "unknown form '../short'; known: markup, compact, json"),
        ("modifiers", {"scope": "note"}, "unknown scope 'note'; known: entity, sentence"),
    ],
)
def test_unknown_names(task: str, settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        instruction(task, CLINICAL, EVERYTHING, **settings)


@pytest.mark.parametrize("task", TASKS)
def test_nothing_to_ask_for(task: str) -> None:
    with pytest.raises(ValueError, match=r"annotates nothing of schema .* leave this task out"):
        instruction(task, CLINICAL, Annotates(frozenset(), frozenset()))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The package's texts in a folder of their own; ``installed()`` reads them anew."""
    folder = tmp_path / "prompts"
    shutil.copytree(str(files("fedmedlora.tasks") / "prompts"), folder)
    caches = (prompts._template, prompts._scopes)

    def again() -> Path:
        for one in caches:
            one.cache_clear()
        return folder

    monkeypatch.setattr(prompts, "_folder", lambda: folder)
    yield again
    monkeypatch.undo()
    again()


def study_hash() -> str:
    return prompts_hash(TASKS, prompt_set="study", form="json")


def test_every_task_set_and_form_has_a_hash_of_its_own() -> None:
    asked = [(tasks, p, f) for tasks in (("ner",), TASKS) for p in prompt_sets() for f in known_forms()]
    assert len({prompts_hash(tasks, prompt_set=p, form=f) for tasks, p, f in asked}) == len(asked)
    assert prompts_hash(TASKS[::-1], prompt_set="study", form="json") == study_hash()
    assert re.fullmatch("[0-9a-f]{64}", prompts_hash((INSTRUCTION,), prompt_set="study", form="markup"))


@pytest.mark.parametrize("text", ["study/json/ner.txt", "study/json/modifiers.txt", "scopes.toml"])
def test_a_word_more_in_a_text_that_is_used_changes_the_hash(installed, text: str) -> None:
    before, path = study_hash(), installed() / text
    assert before == study_hash()
    words = path.read_text().replace("sentence", "phrase")
    assert words != path.read_text()
    path.write_text(words)
    installed()
    assert study_hash() != before


def test_line_endings_and_texts_that_are_not_used_do_not_change_it(installed) -> None:
    before = study_hash()
    for path in [path for path in installed().rglob("*") if path.is_file()]:
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    (installed() / "study" / "ner.txt").write_text("markup asks otherwise")
    assert study_hash() == before

"""What Ollama reads: the prompt that its template gives is the one that was trained."""

from __future__ import annotations

import re

import pytest

from fedmedlora.model.modelfile import modelfile

# As a chat template writes it: what stands before and after an input.
BEFORE, AFTER = "<|im_start|>user\n{instruction}\n", "<|im_end|>\n<|im_start|>assistant\n"
FROM = {"FROM": "./model.gguf"}


def text_of(name: str, file: str) -> str:
    """The text of an instruction between three quotation marks, as Ollama's parser takes it."""
    (found,) = re.findall(rf'^{name} """(.*?)"""$', file, re.DOTALL | re.MULTILINE)
    return found


def fill(template: str, system: str, prompt: str) -> str:
    """What Go's templates make of ours, which use four things of theirs."""
    shown = r"\1" if system else ""
    found = re.sub(r"\{\{ if \.System \}\}(.*?)\{\{ end \}\}", shown, template, flags=re.DOTALL)
    values = {"{{ .System }}": system, "{{ .Prompt }}": prompt, '{{ "{{" }}': "{{"}
    return re.sub(r'\{\{ (?:\.System|\.Prompt|"\{\{") \}\}', lambda m: values[m.group()], found)


def test_the_template_is_the_frame_and_the_instruction_is_the_system_message():
    file = modelfile(FROM, BEFORE, AFTER, instruction="Mark it.\nAll of it.")
    assert file.startswith("FROM ./model.gguf\nTEMPLATE ")
    assert file.endswith("\nPARAMETER temperature 0\nPARAMETER repeat_penalty 1\n")
    assert text_of("SYSTEM", file) == "Mark it.\nAll of it."
    prompt = fill(text_of("TEMPLATE", file), "Mark it.", "Pt denies pain.")
    assert prompt == BEFORE.replace("{instruction}", "Mark it.") + "Pt denies pain." + AFTER


def test_without_an_instruction_a_message_begins_with_its_input():
    file = modelfile(FROM, BEFORE, AFTER)
    assert "SYSTEM" not in file.replace("{{ if .System }}{{ .System }}", "")
    prompt = fill(text_of("TEMPLATE", file), "", "Who? ")
    assert prompt == "<|im_start|>user\nWho? " + AFTER


def test_braces_of_a_frame_are_no_template_of_gos():
    before, after = "{{ .Prompt }} {%{instruction}\n", "}} {{{ end }}"
    template = text_of("TEMPLATE", modelfile(FROM, before, after))
    assert fill(template, "S", "P") == "{{ .Prompt }} {%S\nP}} {{{ end }}"
    # Go reads {{ "{{" }} as the text {{; nothing else of the frame opens anything.
    rest = template.replace('{{ "{{" }}', "")
    assert re.findall(r"\{\{.*?\}\}", rest) == [
        "{{ if .System }}",
        "{{ .System }}",
        "{{ end }}",
        "{{ .Prompt }}",
    ]


def test_an_adapter_goes_with_its_base_model():
    file = modelfile({"FROM": "./base.gguf", "ADAPTER": "./adapter.gguf"}, BEFORE, AFTER)
    assert file.startswith("FROM ./base.gguf\nADAPTER ./adapter.gguf\nTEMPLATE ")


@pytest.mark.parametrize(
    ("before", "instruction", "message"),
    [
        ("no place for it", "x", "once in the frame, and it is there 0 times"),
        ("{instruction} {instruction}", "x", "it is there 2 times"),
        (BEFORE, 'say """x"""', "three quotation marks in a row"),
        ('"""' + BEFORE, "x", "three quotation marks in a row"),
        (BEFORE, "5\u00a0mg", r"drops U\+00A0"),
        (BEFORE, "x\u200b", r"drops U\+200B"),
        (BEFORE, "x\x00", r"drops U\+0000"),
    ],
)
def test_what_a_modelfile_cannot_hold_is_refused(before, instruction, message):
    with pytest.raises(ValueError, match=message):
        modelfile(FROM, before, AFTER, instruction=instruction)


def test_line_ends_tabs_and_other_languages_stay():
    file = modelfile(FROM, BEFORE, AFTER, instruction='µg\tGröße\r\n"quoted" 体温')
    assert text_of("SYSTEM", file) == 'µg\tGröße\r\n"quoted" 体温'

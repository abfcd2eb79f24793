"""An Ollama ``Modelfile``: the prompt as the adapter was trained with it, and answers that repeat themselves.

The file: https://github.com/ollama/ollama/blob/main/docs/modelfile.md; how it is read, and what a template
may hold: ``parser/parser.go`` and ``template/template.go`` there.
"""

from __future__ import annotations

SLOT = "{instruction}"
_QUOTES = '"""'


def modelfile(sources: dict[str, str], before: str, after: str, *, instruction: str = "") -> str:
    """The text of a ``Modelfile``.

    ``sources``: "FROM" and, for an adapter, "ADAPTER" -> a path beside the file. ``before``, ``after``: the
    frame around an input, with ``SLOT`` where the instruction stands. ``instruction``: becomes SYSTEM, so a
    request with another system message asks for something else. Raises ``ValueError`` for a text that a
    ``Modelfile`` cannot hold.
    """
    head, slot, tail = before.partition(SLOT)
    if not slot or SLOT in tail:
        raise ValueError(
            f"a Modelfile needs {SLOT} once in the frame, and it is there {before.count(SLOT)} times"
        )
    # The line end belongs to the instruction: without one, a message begins with its input.
    end = "\n" if tail.startswith("\n") else ""
    template = (
        f"{_literal(head)}{{{{ if .System }}}}{{{{ .System }}}}{end}{{{{ end }}}}"
        f"{_literal(tail.removeprefix(end))}{{{{ .Prompt }}}}{_literal(after)}"
    )
    lines = [f"{name} {path}" for name, path in sources.items()]
    lines.append(f"TEMPLATE {_quoted(template)}")
    if instruction:
        lines.append(f"SYSTEM {_quoted(instruction)}")
    # An answer in markup repeats its input, which Ollama's own default makes less likely.
    lines += ["PARAMETER temperature 0", "PARAMETER repeat_penalty 1"]
    return "\n".join(lines) + "\n"


def _literal(text: str) -> str:
    """``text`` in a template of Go's, where two braces begin what is computed."""
    return text.replace("{{", '{{ "{{" }}')


def _quoted(text: str) -> str:
    if _QUOTES in text:
        raise ValueError("a Modelfile cannot hold three quotation marks in a row, and the prompt does")
    lost = [c for c in text if not c.isprintable() and c not in "\n\t\r"]
    if lost:
        raise ValueError(f"a Modelfile drops U+{ord(lost[0]):04X}, and the prompt holds one")
    return f"{_QUOTES}{text}{_QUOTES}"

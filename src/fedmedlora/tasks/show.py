"""An example for a person to look at: what is prompt, what is copied, what is tagged, what is learned."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.text import Text

from fedmedlora.tasks.copying import is_tag
from fedmedlora.tasks.example import PLAIN, Example
from fedmedlora.tasks.form import load_form, read_by

COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")  # tags, by the label's place in ``labels``


def show(example: Example, tokens: Sequence[tuple[str, bool]] | None = None) -> Text:
    """Styled text: the prompt dim, copied text plain, tags in the colour of their label, a legend below.

    Without ``tokens`` the target is shown as the supervised part. ``tokens``: the whole sequence as a
    model sees it, each with whether the loss counts it; then that is what is underlined, and every
    second token has a ground, so that their borders can be seen.

    The view holds text of the note: it is for the terminal of someone who may read it, not for a log.
    """
    view = Text()
    if tokens is None:
        view.append(example.instruction, "dim")
        for part in example.input:
            view.append(part, f"dim {_colour(part, example)}".strip() if _is_label(part, example) else "dim")
        view.append("\n\n")
        tags = _tags(example)
        for step in example.target:
            is_coloured = is_tag(step) or step.strip() in example.labels
            tag = tags.get(step, step.strip())
            view.append(step, f"{_colour(tag, example)} underline" if is_coloured else "underline")
        if not example.target:
            view.append("(no gold)", "italic")
    else:
        for index, (token, supervised) in enumerate(tokens):
            view.append(token, ("underline" if supervised else "dim") + (" on grey15" if index % 2 else ""))
        _colour_tags(view, example)
    view.append("\n\n")
    view.append_text(_legend(example, tokens))
    return view


def _legend(example: Example, tokens: Sequence[tuple[str, bool]] | None) -> Text:
    legend = Text(f"{example.id} · task {example.task}\n")
    legend.append("prompt", "dim").append(" · ").append("supervised", "underline")
    if example.form == PLAIN:
        legend.append(f"\n{len(''.join(example.target))} characters in the response")
        if tokens is not None:
            legend.append(f", {sum(s for _, s in tokens)} of {len(tokens)} tokens supervised")
        return legend
    for label in example.labels:
        legend.append(" · ").append(label, _colour(f"<{label}>", example))
    legend.append(f"\n{len(example.pieces)} pieces, ")
    if read_by(example.form) == "copying":
        legend.append(f"{sum(map(is_tag, example.target))} tags in the target")
    elif read_by(example.form) == "tagging":
        legend.append(f"{len(example.target)} words decided behind them")
    else:
        legend.append(f"{len(''.join(example.target))} characters of {example.form} in the target")
    if tokens is not None and read_by(example.form) != "tagging":
        legend.append(f", {sum(s for _, s in tokens)} of {len(tokens)} tokens supervised")
    return legend


def _tags(example: Example) -> dict[str, str]:
    """What opens a mention in this form, and its tag; what closes one does not always say which."""
    texts = load_form(example.form).tag_texts(example.labels) if example.form != PLAIN else {}
    return {text: tag for tag, text in texts.items() if not tag.startswith("</")}


def _colour_tags(view: Text, example: Example) -> None:
    tags = _tags(example)
    names = "|".join(map(re.escape, example.labels))
    if names:
        for match in re.finditer("|".join([f"</?(?:{names})>", *map(re.escape, tags)]), view.plain):
            view.stylize(_colour(tags.get(match[0], match[0]), example), *match.span())


def _is_label(part: str, example: Example) -> bool:
    return is_tag(part) and part.strip("</>") != ""


def _colour(tag: str, example: Example) -> str:
    label = tag.strip("</>")
    if label not in example.labels:  # an entity marked in the input of task "modifiers"
        return "bold"
    return f"bold {COLOURS[example.labels.index(label) % len(COLOURS)]}"

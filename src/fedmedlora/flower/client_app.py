"""The ClientApp: a question comes in, this site's own file says what may be done, an answer goes out.

The SuperNode's node configuration names the site's file; ``site_program.py`` sees to that.
In a simulation there is none, and the site is one of the study that the coordinator's environment names.
What goes wrong here is logged here; the coordinator reads only what is meant for it.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

import fedmedlora
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.flower.allows import NotNow, Refused
from fedmedlora.flower.messages import DESCRIBE, FAILED, LOSSES, NOT_NOW, OPENS_IN_S, READ, Letter
from fedmedlora.flower.question import Kind, Question, read_question, refuse_question
from fedmedlora.flower.site_file import SiteFile, load_site_file
from fedmedlora.flower.site_log import SiteLog
from fedmedlora.flower.site_program import GUARDED
from fedmedlora.flower.site_work import CURRENT, SiteWork, open_site, turn
from fedmedlora.flower.state import simulated_site
from fedmedlora.terms import Terms

log = logging.getLogger("fedmedlora")
app = ClientApp()


@app.query(DESCRIBE.split(".")[1])
def describe(message: Message, context: Context) -> Message:
    """What this site says about itself under the terms of the study."""
    return _answer(message, context, "describe", lambda work, asked: work.describe())


@app.train()
def train(message: Message, context: Context) -> Message:
    """One round of training from the adapter that came, or that the change which came leads to."""
    return _answer(
        message,
        context,
        "train",
        lambda work, asked: work.train(
            asked.round_num, asked.parts, asked.for_method(), last_round=asked.last_round
        ),
    )


@app.evaluate(READ.split(".")[1])
def read(message: Message, context: Context) -> Message:
    """Counts and F1 of the adapter that came on this site's test notes."""
    return _answer(
        message,
        context,
        "read",
        lambda work, asked: work.read(_adapter(asked.part(CURRENT)), asked.decoding, asked.for_method()),
    )


@app.evaluate(LOSSES.split(".")[1])
def losses(message: Message, context: Context) -> Message:
    """Losses of the other sites' adapters on this site's held-out notes."""
    return _answer(
        message,
        context,
        "losses",
        lambda work, asked: work.losses(
            {name: _adapter(data) for name, data in asked.parts.items()}, asked.for_method()
        ),
    )


def _answer(
    message: Message, context: Context, kind: Kind, do: Callable[[SiteWork, Question], Letter]
) -> Message:
    site_log: SiteLog | None = None  # there is none where the site's own file cannot be read
    failure: Exception | None = None
    try:
        file = _site_file(context)
        site_log = SiteLog.asked(file, message)
        asked = read_question(kind, _letter(message))
        refuse_question(file.allows, asked, datetime.now())  # before anything is loaded
        with turn(file):
            refuse_question(file.allows, asked, datetime.now())  # its turn may have come after its hours
            answer = do(_opened(file, asked.terms.to_json()), asked)
        answer = Letter({**answer.fields, "refused": ""}, answer.parts)
    except Refused as refusal:
        log.warning("refused: %s", refusal)
        answer, failure = Letter({"refused": str(refusal)}), refusal
    except NotNow as later:
        log.warning("not now: %s", later)
        answer = Letter({"refused": "", NOT_NOW: str(later), OPENS_IN_S: later.opens_in_s})
    except Exception as error:
        failure = error
        frames = traceback.format_list(traceback.extract_tb(error.__traceback__))
        log.error("%s %s\n%s", type(error).__name__, _own_words(error), "".join(frames))
        told = f"it failed with {type(error).__name__}; its own log says where and why"
        answer = Letter({"refused": "", FAILED: told})
    content = answer.to_records() if site_log is None else site_log.leaving(answer, failure)
    return Message(content=content, reply_to=message)


def _letter(message: Message) -> Letter:
    try:
        return Letter.from_records(message.content)
    except ValueError as error:  # in our own words, about what the coordinator itself has sent
        raise Refused(str(error)) from error


@lru_cache(maxsize=1)  # a ClientApp process usually answers once; a simulated one many times
def _opened(file: SiteFile, terms: str) -> SiteWork:
    return open_site(file, Terms.from_json(terms))


def _site_file(context: Context) -> SiteFile:
    named = context.node_config.get("site")
    if isinstance(named, str):
        if not os.environ.get(GUARDED):
            raise Refused(
                "its SuperNode was started without the check of what app may come; it is to be started with "
                "python -m fedmedlora.flower.site_program --site site.toml"
            )
        return load_site_file(Path(named))
    index = context.node_config.get("partition-id")
    if not isinstance(index, int):
        raise ValueError(
            "the SuperNode was started without its site's file; start it with "
            "python -m fedmedlora.flower.site_program --site /srv/fedmedlora/site.toml"
        )
    return simulated_site(str(context.run_config.get("study", "")), index)


def _adapter(data: bytes) -> Adapter:
    return Adapter.from_bytes(data, check_finite=True)


def _own_words(error: Exception) -> str:
    """What an error says where we have worded it, else "": what a library says might quote a note."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    worded = isinstance(error, (ValueError, ChildProcessError)) and _is_ours(last.filename)
    return str(error) if worded else ""


def _is_ours(file: str) -> bool:
    return Path(file).is_relative_to(Path(fedmedlora.__file__).parent)

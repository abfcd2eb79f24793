"""The ClientApp: a question comes in, this site's own file says what may be done, an answer goes out.

The SuperNode's node configuration names the site's file, ``--node-config 'site="/srv/site/site.toml"'``.
In a simulation there is none, and the site is one of the study that the coordinator's environment names.
What goes wrong here is logged here; the coordinator reads only what is meant for it.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

import fedmedlora
from fedmedlora.exchange.adapter import Adapter
from fedmedlora.flower.messages import DESCRIBE, LOSSES, READ, Letter, errand_of
from fedmedlora.flower.site_file import Refused, SiteFile, load_site_file
from fedmedlora.flower.site_log import SiteLog
from fedmedlora.flower.site_work import CURRENT, LAST_ROUND, SiteWork, open_site, turn
from fedmedlora.flower.state import simulated_site
from fedmedlora.terms import Terms

log = logging.getLogger("fedmedlora")
app = ClientApp()


@app.query(DESCRIBE.split(".")[1])
def describe(message: Message, context: Context) -> Message:
    """What this site says about itself under the terms of the study."""
    return _answer(message, context, lambda work, letter: work.describe())


@app.train()
def train(message: Message, context: Context) -> Message:
    """One round of training from the adapter that came, or that the change which came leads to."""
    return _answer(
        message,
        context,
        lambda work, letter: work.train(
            letter.whole("round_num"),
            letter.parts,
            errand_of(letter),
            last_round=letter.whole(LAST_ROUND),
        ),
    )


@app.evaluate(READ.split(".")[1])
def read(message: Message, context: Context) -> Message:
    """Counts and F1 of the adapter that came on this site's test notes."""
    return _answer(
        message,
        context,
        lambda work, letter: work.read(
            _adapter(letter.part(CURRENT)), letter.text("decoding"), errand_of(letter)
        ),
    )


@app.evaluate(LOSSES.split(".")[1])
def losses(message: Message, context: Context) -> Message:
    """Losses of the other sites' adapters on this site's held-out notes."""
    return _answer(
        message,
        context,
        lambda work, letter: work.losses(
            {name: _adapter(data) for name, data in letter.parts.items()}, errand_of(letter)
        ),
    )


def _answer(message: Message, context: Context, do: Callable[[SiteWork, Letter], Letter]) -> Message:
    site_log: SiteLog | None = None  # there is none where the site's own file cannot be read
    failure: Exception | None = None
    try:
        file = _site_file(context)
        site_log = SiteLog.asked(file, message)
        letter = Letter.from_records(message.content)
        terms = letter.text("terms")
        file.refuse(Terms.from_json(terms))  # before anything is loaded
        with turn(file):
            answer = do(_opened(file, terms), letter)
        answer = Letter({**answer.fields, "refused": ""}, answer.parts)
    except Refused as refusal:
        log.warning("refused: %s", refusal)
        answer, failure = Letter({"refused": str(refusal)}), refusal
    except Exception as error:
        failure = error
        frames = traceback.format_list(traceback.extract_tb(error.__traceback__))
        log.error("%s %s\n%s", type(error).__name__, _own_words(error), "".join(frames))
        answer = Letter({"refused": f"it failed with {type(error).__name__}; its own log says where and why"})
    content = answer.to_records() if site_log is None else site_log.leaving(answer, failure)
    return Message(content=content, reply_to=message)


@lru_cache(maxsize=1)  # a ClientApp process usually answers once; a simulated one many times
def _opened(file: SiteFile, terms: str) -> SiteWork:
    return open_site(file, Terms.from_json(terms))


def _site_file(context: Context) -> SiteFile:
    named = context.node_config.get("site")
    if isinstance(named, str):
        return load_site_file(Path(named))
    index = context.node_config.get("partition-id")
    if not isinstance(index, int):
        raise ValueError(
            "the SuperNode was started without its site's file; start it with "
            "--node-config 'site=\"/srv/fedmedlora/site.toml\"'"
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

"""Scores of answers to instruction data: each a number from 0 to 1, and the mean of a cohort.

``exact_match``: 1 where the answer is the response, runs of white space counted as one space. ``token_f1``:
F1 of the words that both hold, as SQuAD measures it (Rajpurkar et al., SQuAD, EMNLP 2016,
arXiv:1606.05250, section 6.1): lower case, without punctuation and the articles a, an, the. "choice" is 1
where the choice that the model finds most likely is the response.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from fedmedlora.evaluation.bootstrap import mean_interval

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(answer: str, response: str) -> float:
    """1 where the two are the same text, white space folded; else 0."""
    return float(answer.split() == response.split())


def token_f1(answer: str, response: str) -> float:
    """F1 of the two as bags of normalized words; 1 where neither has any, 0 where one has none."""
    said, right = (_words(text) for text in (answer, response))
    if not said or not right:
        return float(said == right)
    num_shared = (Counter(said) & Counter(right)).total()
    return 2 * num_shared / (len(said) + len(right))


def summarize_answers(
    metric: str, scores: Sequence[float], *, rng: np.random.Generator | None, num_resamples: int = 1000
) -> dict[str, Any]:
    """``answers`` of ``results.json``: the mean of ``scores`` (one per record), and its interval."""
    interval = None if rng is None else mean_interval(scores, rng=rng, num_resamples=num_resamples)
    return {
        "metric": metric,
        "num_records": len(scores),
        "score": sum(scores) / len(scores) if scores else None,
        "interval": None if interval is None else list(interval),
    }


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()

"""Download the files of a corpus of the catalogue: those listed and no other, each held against its sum.

Addresses come out of the package alone: nothing that a server says names a place on the disk, and an answer
that points elsewhere (a redirect) is refused. A file appears under its name only once it is whole and right.
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from fedmedlora.corpora.jsonl import write_atomically
from fedmedlora.corpora.open_corpus import CorpusFile, OpenCorpus

TIMEOUT_S = 60
NUM_AT_ONCE = 4
_HERE = ("127.0.0.1", "::1", "localhost")  # plain http is for a mirror on this machine only


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """None: the answer is an error, as is any other that is not the file."""


def fetch(
    corpus: OpenCorpus, out: Path, *, tell: Callable[[int, int], None] = lambda done, of: None
) -> tuple[int, int]:
    """Put the files of ``corpus`` under ``out``; how many were downloaded, and how many were there already.

    A file that is there with the right content is left alone, so a second call goes on where a first one
    stopped. ``tell(done, of)``: called after each file. Raises ``ValueError`` naming the address for
    whatever is not the file listed (another size or sum, a redirect, no answer), and where another file is in
    its place.
    """
    if not corpus.files:
        raise ValueError(f"{corpus.name} cannot be fetched: {corpus.missing}. See {corpus.home}")
    address = urlsplit(corpus.base)
    if address.scheme != "https" and not (address.scheme == "http" and address.hostname in _HERE):
        raise ValueError(f"{corpus.base}: only https addresses are fetched from")
    wanted = [file for file in corpus.files if not _is_there(out / file.path, file)]
    done = len(corpus.files) - len(wanted)
    pool = ThreadPoolExecutor(NUM_AT_ONCE)
    try:
        for file, content in zip(wanted, pool.map(lambda f: _download(corpus.base, f), wanted), strict=True):
            write_atomically(out / file.path, content)
            done += 1
            tell(done, len(corpus.files))
    finally:
        pool.shutdown(cancel_futures=True)
    return len(wanted), len(corpus.files) - len(wanted)


def _is_there(path: Path, file: CorpusFile) -> bool:
    if not path.exists():
        return False
    if path.is_file() and path.stat().st_size == file.num_bytes and _is_right(path.read_bytes(), file):
        return True
    raise ValueError(
        f"{path}: is there already and is not the corpus' file; move it away or name a new folder"
    )


def _is_right(content: bytes, file: CorpusFile) -> bool:
    return len(content) == file.num_bytes and hashlib.sha256(content).hexdigest() == file.sha256


def _download(base: str, file: CorpusFile) -> bytes:
    url = base + quote(file.path)
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(urllib.request.Request(url), timeout=TIMEOUT_S) as answer:
            content: bytes = answer.read(file.num_bytes + 1)  # never more, whatever the server sends
    except urllib.error.HTTPError as error:
        error.close()
        why = "points elsewhere" if 300 <= error.code < 400 else "is not given out"
        raise ValueError(f"{url}: {why} (HTTP status {error.code})") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise ValueError(f"{url}: cannot be reached or broke off ({reason}); run the command again") from None
    if not _is_right(content, file):
        raise ValueError(
            f"{url}: is not the file whose sha256 the catalogue has ({file.sha256[:12]}..., {file.num_bytes} "
            "bytes); it changed or was tampered with, and was not kept"
        )
    return content

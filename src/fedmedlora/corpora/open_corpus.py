"""The catalogue of open corpora: who made each, under which licence, where its files are, and their sums.

One ``catalogue/<name>.toml`` and ``catalogue/<name>.files`` each; the corpus' reader and what it annotates
are in ``mappings/<name>.toml``. The list holds a line ``SHA256 BYTES PATH`` per file that
``fetch`` takes, below ``base``; a corpus without it cannot be fetched, and ``missing`` says why. The project
holds none of the files themselves.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

FORMAT = "fedmedlora-corpus"
VERSION = 1
_LINE = re.compile(r"([0-9a-f]{64}) (\d{1,12}) (\S.*)", re.ASCII)
_KEYS = ("format", "version", "name", "about", "cite", "licence", "notice", "home", "base", "missing")


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """One file: ``path`` below the corpus' ``base`` and below the folder that it is fetched into."""

    path: str
    sha256: str
    num_bytes: int


@dataclass(frozen=True, slots=True)
class OpenCorpus:
    """An entry of the catalogue.

    ``cite``: the publication. ``notice``: what to know about the licence, "" if nothing. ``home``: its
    owners' page. ``base``: an address that ends in "/". ``missing``: what ``fetch`` does not take, and why.
    """

    name: str
    about: str
    cite: str
    licence: str
    home: str
    notice: str = ""
    base: str = ""
    missing: str = ""
    files: tuple[CorpusFile, ...] = ()

    @property
    def num_bytes(self) -> int:
        """Of all files that ``fetch`` takes."""
        return sum(file.num_bytes for file in self.files)


def corpus_names() -> tuple[str, ...]:
    """Corpora of the catalogue, sorted."""
    files = resources.files("fedmedlora.corpora").joinpath("catalogue").iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


def open_corpus(name: str) -> OpenCorpus:
    """The entry ``name``. Raises ``ValueError`` listing the known names."""
    if name not in corpus_names():
        raise ValueError(f"no corpus {name!r} in the catalogue; it has: {', '.join(corpus_names())}")
    folder = resources.files("fedmedlora.corpora").joinpath("catalogue")
    listed = folder.joinpath(f"{name}.files")
    files = listed.read_text(encoding="utf-8") if listed.is_file() else ""
    return parse_entry(folder.joinpath(f"{name}.toml").read_text(encoding="utf-8"), files, f"{name}.toml")


def parse_entry(text: str, files: str, where: str) -> OpenCorpus:
    """An entry out of its TOML and its list of files. Raises ``ValueError`` that begins with ``where``."""
    table: dict[str, Any] = tomllib.loads(text)
    unknown = table.keys() - set(_KEYS)
    if unknown or (table.get("format"), table.get("version")) != (FORMAT, VERSION):
        raise ValueError(f'{where}: must be format = "{FORMAT}", version = {VERSION}, with the keys {_KEYS}')
    texts = {key: value for key, value in table.items() if key not in ("format", "version")}
    found = tuple(_file(line, where) for line in files.splitlines())
    base = texts.get("base", "")
    if len({file.path for file in found}) != len(found):
        raise ValueError(f"{where}: a file is listed twice")
    if bool(found) != bool(base) or (found and not base.endswith("/")):
        raise ValueError(f"{where}: files need a base that ends in '/', and a base needs files")
    return OpenCorpus(**texts, files=found)


def _file(line: str, where: str) -> CorpusFile:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"{where}: a line of its files must be SHA256 BYTES PATH")
    path = PurePosixPath(match[3])
    if path.is_absolute() or ".." in path.parts or "\\" in match[3] or path.as_posix() != match[3]:
        raise ValueError(
            f"{where}: a path of its files leads out of the folder or is not in its plainest form"
        )
    return CorpusFile(match[3], match[1], int(match[2]))


def reference_page() -> str:
    """The tables of ``docs/open-corpora.md``; a test holds the page to them."""
    from fedmedlora.corpora.mapping import shipped_mapping  # mappings are read for this alone

    lines = ["| corpus | what it is | format | annotated | licence | fetched |", "|---|---|---|---|---|---|"]
    notes = []
    for corpus in map(open_corpus, corpus_names()):
        mapping = shipped_mapping(corpus.name)
        kinds = ", ".join(kind for kind in mapping.schema.entities if kind in mapping.annotates.entities)
        num = f"{len(corpus.files)} file{'s' if len(corpus.files) > 1 else ''}"
        size = f"{num}, {corpus.num_bytes / 1e6:.1f} MB" if corpus.files else "no"
        pairs = f"; {len(mapping.annotates.pairs)} pairs" if mapping.annotates.pairs else ""
        lines.append(
            f"| [`{corpus.name}`]({corpus.home}) | {corpus.about} | `{mapping.reader}` | {kinds}{pairs} | "
            f"{corpus.licence} | {size} |"
        )
        told = [corpus.notice] if corpus.notice else []
        told += [f"Not fetched: {corpus.missing}."] if corpus.missing else []
        notes.append(f"* **{corpus.name}**: {corpus.cite}.{''.join(f' {part}' for part in told)}")
    return "\n".join([*lines, "", *notes, ""])

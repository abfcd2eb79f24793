"""``corpora fetch`` against a server on this machine, honest and otherwise."""

import gzip
import hashlib
import os
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fedmedlora.cli import main
from fedmedlora.corpora import open_corpus as catalogue
from fedmedlora.corpora.convert import convert
from fedmedlora.corpora.fetch import fetch
from fedmedlora.corpora.mapping import mapping_names
from fedmedlora.corpora.open_corpus import CorpusFile, OpenCorpus, corpus_names, open_corpus, parse_entry

ROOT = Path(os.environ.get("FEDMEDLORA_CORPORA", Path(__file__).parents[3] / "shared" / "corpora"))
FILES = {"a/one.txt": b"No fever.", "a/one.ann": b"T1\tproblem 3 8\tfever\n", "two words.txt": b"Well."}


class Server:
    """Serves ``files``; ``answers`` replaces an answer by (status, headers, content)."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.asked = files, list[str]()
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.removeprefix("/data/").replace("%20", " ")
                outer.asked.append(path)
                content = outer.files.get(path)
                found = (
                    (404, {}, b"")
                    if content is None
                    else (200, {"Content-Length": str(len(content))}, content)
                )
                status, headers, body = outer.answers.get(path, found)
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.http.server_port}/data/"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server({**FILES, "not-listed.txt": b"secret"})
    yield found
    found.http.shutdown()
    found.http.server_close()


def entry(base: str, files: dict[str, bytes] = FILES) -> OpenCorpus:
    listed = tuple(CorpusFile(p, hashlib.sha256(b).hexdigest(), len(b)) for p, b in files.items())
    return OpenCorpus("mine", "", "", "CC BY 4.0", "https://example.org", base=base, files=listed)


def under(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_exactly_the_files_listed(server: Server, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    found = fetch(entry(server.base), tmp_path / "x", tell=lambda done, of: told.append((done, of)))
    assert found == (3, 0)
    assert under(tmp_path / "x") == FILES
    assert sorted(server.asked) == sorted(FILES)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_second_call_fetches_what_is_not_there(server: Server, tmp_path: Path) -> None:
    fetch(entry(server.base), tmp_path)
    (tmp_path / "two words.txt").unlink()
    server.asked.clear()
    assert fetch(entry(server.base), tmp_path) == (1, 2)
    assert server.asked == ["two words.txt"]
    (tmp_path / "a" / "one.txt").write_bytes(b"Mo fever.")
    with pytest.raises(ValueError, match=r"one\.txt: is there already and is not the corpus' file"):
        fetch(entry(server.base), tmp_path)
    assert (tmp_path / "a" / "one.txt").read_bytes() == b"Mo fever."


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, {"Content-Length": "9"}, b"No cough."), "is not the file whose sha256"),
        ((200, {"Content-Length": "10"}, b"No fever.."), "is not the file whose sha256"),
        ((200, {"Content-Length": "9"}, b"No fev"), "is not the file whose sha256"),  # broke off
        ((200, {"Content-Length": "0"}, b""), "is not the file whose sha256"),
        ((302, {"Location": "not-listed.txt"}, b""), r"points elsewhere \(HTTP status 302\)"),
        ((301, {"Location": "file:///etc/hostname"}, b""), "points elsewhere"),
        ((404, {}, b""), r"is not given out \(HTTP status 404\)"),
        ((500, {}, b""), "HTTP status 500"),
    ],
)
def test_whatever_is_not_the_file_is_not_kept(
    answer: tuple[int, dict[str, str], bytes], message: str, server: Server, tmp_path: Path
) -> None:
    server.answers["a/one.txt"] = answer
    with pytest.raises(ValueError, match=message) as error:
        fetch(entry(server.base), tmp_path)
    assert server.base in str(error.value)
    assert "a/one.txt" not in under(tmp_path)
    assert "not-listed.txt" not in server.asked


def test_more_than_listed_is_not_read(server: Server, tmp_path: Path) -> None:
    # Ten million bytes under a name of nine: read are ten.
    server.answers["a/one.txt"] = (200, {"Content-Length": str(10**7)}, b"x" * 10**6)
    with pytest.raises(ValueError, match="is not the file"):
        fetch(entry(server.base), tmp_path)


def test_nobody_there(tmp_path: Path) -> None:
    gone = Server({})
    gone.http.shutdown()
    gone.http.server_close()
    with pytest.raises(ValueError, match="cannot be reached"):
        fetch(entry(gone.base), tmp_path)
    assert under(tmp_path) == {}


@pytest.mark.parametrize("base", ["http://example.org/", "ftp://127.0.0.1/", "file:///srv/", "//127.0.0.1/"])
def test_only_https(base: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only https"):
        fetch(entry(base), tmp_path)


HEAD = 'format = "fedmedlora-corpus"\nversion = 1\n'
HEAD += "".join(f'{key} = "x"\n' for key in ("name", "about", "cite", "licence", "home"))
BASE = 'base = "https://example.org/"\n'
SUM = "0" * 64


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", "a\\..\\x", "./x", "a//x", ""])
def test_a_list_of_files_stays_in_its_folder(path: str) -> None:
    with pytest.raises(ValueError, match=r"m\.toml"):
        parse_entry(HEAD + BASE, f"{SUM} 3 {path}\n", "m.toml")


@pytest.mark.parametrize(
    ("text", "files"),
    [
        (HEAD + "extra = 1\n", ""),
        (HEAD.replace("version = 1", "version = 2"), ""),
        (HEAD, f"{SUM} 3 x\n"),
        (HEAD + BASE, ""),
        (HEAD + BASE.replace('org/"', 'org"'), f"{SUM} 3 x\n"),
        (HEAD + BASE, f"{SUM} 3 x\n{SUM} 3 x\n"),
        (HEAD + BASE, f"{SUM[1:]} 3 x\n"),
        (HEAD + BASE, f"{SUM} x\n"),
    ],
)
def test_entries_are_checked(text: str, files: str) -> None:
    assert parse_entry(HEAD + BASE, f"{SUM} 3 x\n", "m.toml").num_bytes == 3
    with pytest.raises(ValueError, match=r"m\.toml"):
        parse_entry(text, files, "m.toml")


def test_every_entry_is_whole() -> None:
    assert set(corpus_names()) == set(mapping_names())
    for name in corpus_names():
        corpus = open_corpus(name)
        assert corpus.name == name
        assert all([corpus.about, corpus.cite, corpus.licence])
        assert corpus.home.startswith("https://")
        assert corpus.files or corpus.missing
        assert corpus.base.startswith("https://") == bool(corpus.files)
    with pytest.raises(ValueError, match="it has: bc5cdr, chia"):
        open_corpus("../mappings/chia")


def test_the_commands(server: Server, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(catalogue, "open_corpus", lambda name: entry(server.base))
    assert main(["corpora", "fetch", "mine", "--out", str(tmp_path / "x")]) == 0
    told = capsys.readouterr()
    assert "3 files fetched" in told.out
    assert "fedmedlora corpora convert mine" in told.out
    assert "Licence: CC BY 4.0" in told.err
    server.files["a/one.txt"] = b"changed"
    assert main(["corpora", "fetch", "mine", "--out", str(tmp_path / "y")]) == 2
    assert "is not the file whose sha256" in capsys.readouterr().err


def test_what_is_not_open_says_where_to_ask(tmp_path: Path, capsys) -> None:
    assert main(["corpora", "fetch", "i2b2_2010", "--out", str(tmp_path)]) == 2
    assert "https://portal.dbmi.hms.harvard.edu" in capsys.readouterr().err


def contents(folder: Path) -> Iterator[bytes]:
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.name.endswith(".tar.gz"):
            with tarfile.open(path) as archive:
                for member in archive:
                    file = archive.extractfile(member)
                    if file is not None:
                        yield file.read()
        else:
            yield gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@pytest.mark.corpora
@pytest.mark.parametrize("name", [name for name in corpus_names() if open_corpus(name).files])
def test_what_is_fetched_converts_to_the_same_notes(name: str, server: Server, tmp_path: Path) -> None:
    if not (ROOT / name).is_dir():
        pytest.skip(f"real corpora are not here: {name}")
    corpus = open_corpus(name)
    by_sum = {hashlib.sha256(content).hexdigest(): content for content in contents(ROOT / name)}
    server.files = {file.path: by_sum[file.sha256] for file in corpus.files}
    told = {key: getattr(corpus, key) for key in ("name", "about", "cite", "licence", "home", "files")}
    fetch(OpenCorpus(**told, base=server.base), tmp_path)
    found = {note.id.rpartition("/")[2]: note for note in convert(name, tmp_path).notes}
    whole = {note.id.rpartition("/")[2]: note for note in convert(name, ROOT / name).notes}
    if corpus.missing:
        whole = {note_id: note for note_id, note in whole.items() if "Training" not in note.meta["part"]}
    assert {i: (n.text, n.entities, n.links) for i, n in found.items()} == {
        i: (n.text, n.entities, n.links) for i, n in whole.items()
    }


def test_the_page_is_the_catalogue() -> None:
    page = (Path(__file__).parents[2] / "docs" / "open-corpora.md").read_text(encoding="utf-8")
    assert page.endswith(catalogue.reference_page())

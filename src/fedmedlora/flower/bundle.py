"""The app bundle that Flower sends to the sites: which one may come, and the site's own copy of it.

Flower packs an app into a zip (a FAB), sends it from the coordinator to each SuperNode, unpacks it there,
puts the folder first on Python's path and imports the module that the ``pyproject.toml`` in it names (flwr
1.41, ``flwr/supernode/runtime/run_clientapp.py``). So whoever controls the coordinator chooses
the code that runs. Our bundle is one file without code, ``app/pyproject.toml``, which names two objects of
the installed package. A site needs nothing of what comes: it is compared with what is installed here and
thrown away, and what is unpacked is the site's own copy.

Compared is what ``pyproject.toml`` says, and not the bytes of the zip. ``flwr build`` fixes the dates and the
order of the files, so the same machine makes the same bytes each time; but they also depend on the zlib, the
operating system (a field of every entry) and the version of tomli_w that wrote them.
"""

from __future__ import annotations

import hashlib
import io
import tomllib
import zipfile
from dataclasses import dataclass
from typing import Any

from flwr.common.config import get_metadata_from_config

from fedmedlora.flower.allows import Refused
from fedmedlora.flower.submit import app_folder

_APP, _CONTENT = "pyproject.toml", ".info/CONTENT"
_MAX_BYTES = 65_536  # of a bundle as it comes; ours has less than 1000
_MAX_TEXT = 16_384  # of the pyproject.toml in it, unpacked


@dataclass(frozen=True)
class Bundle:
    """A bundle as Flower unpacks it. ``pin``: sha256 of the ``app/pyproject.toml`` that it was made of."""

    content: bytes
    app: dict[str, Any]
    pin: str

    @property
    def sha256(self) -> str:
        """Flower's name for it."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def app_id(self) -> str:
        """Publisher and name."""
        return get_metadata_from_config(self.app)[0]

    @property
    def version(self) -> str:
        """The app's version, which is not that of fedmedlora."""
        return get_metadata_from_config(self.app)[1]


def own_bundle(pin: str = "") -> Bundle:
    """The bundle of the fedmedlora that is installed here.

    ``pin``: what ``site.toml`` says that its ``app/pyproject.toml`` must be; "": whatever it is. Raises
    ``ValueError`` where it is something else.
    """
    file = app_folder() / _APP
    text = file.read_bytes()
    found = hashlib.sha256(text).hexdigest()
    if pin and pin != found:
        raise ValueError(
            f"[coordinator] bundle: {pin} is not the sha256 of {file}, which is {found}; if this version of "
            "fedmedlora is the one that was agreed on, write the latter there"
        )
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in ((_APP, text), (_CONTENT, f"{_APP},{found},{8 * len(text)}".encode())):
            archive.writestr(zipfile.ZipInfo(name), data)  # without a date, so the same each time
    return Bundle(content.getvalue(), _app_of(content.getvalue()), found)


def refuse_other_bundle(own: Bundle, content: bytes, declared: str) -> None:
    """Raise ``Refused`` unless ``content`` says what ``own`` says and nothing else.

    ``declared``: the sha256 under which the coordinator's run names it.
    """
    if len(content) > _MAX_BYTES:
        raise Refused(f"the app bundle has {len(content)} bytes; this site takes at most {_MAX_BYTES}")
    found = hashlib.sha256(content).hexdigest()
    if found != declared:
        raise Refused(f"the app bundle's sha256 is {found}, and the run declares {declared[:64]!r}")
    if _app_of(content) != own.app:
        raise Refused(
            "the app bundle's pyproject.toml is not that of the fedmedlora installed at this site; install "
            "the same version on both sides, and start runs with `fedmedlora run`"
        )


def refuse_other_app(own: Bundle, app_id: str, version: str) -> None:
    """Raise ``Refused`` unless the run names the app of ``own``: Flower finds the unpacked folder by it."""
    if (app_id, version) != (own.app_id, own.version):
        raise Refused(
            f"the run is of app {app_id[:80]!r} version {version[:40]!r}; this site takes {own.app_id} "
            f"{own.version} alone"
        )


def _app_of(content: bytes) -> dict[str, Any]:
    """What ``pyproject.toml`` in the zip says. Raises ``Refused`` for anything but a small, plain bundle."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = sorted(entry.filename for entry in archive.infolist())
            if names != [_CONTENT, _APP]:
                found = ", ".join(repr(name[:60]) for name in names[:5])
                raise Refused(
                    f"the app bundle holds {len(names)} files ({found}{', ...' if len(names) > 5 else ''}); "
                    f"this site takes {_APP} and Flower's list of contents alone, and no code"
                )
            # What a header claims is no matter: more than this is not unpacked.
            text = archive.open(_APP).read(_MAX_TEXT + 1)
        if len(text) > _MAX_TEXT:
            raise Refused(f"the app bundle's {_APP} has more than {_MAX_TEXT} bytes")
        return tomllib.loads(text.decode("utf-8"))
    except Refused:
        raise
    except Exception as error:  # zipfile raises a dozen kinds for a damaged zip
        raise Refused(f"the app bundle cannot be read ({type(error).__name__})") from None

"""Which sites a SuperLink knows: the public keys in a folder, made the same as those that it has registered.

Spoken over Flower's Control interface (protobuf over HTTPS), on this machine: see ``gate.py``. No proxy of
the environment is asked.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListNodesResponse,
    RegisterNodeRequest,
    RegisterNodeResponse,
    UnregisterNodeRequest,
    UnregisterNodeResponse,
)

from fedmedlora.exchange.update import check_site_name
from fedmedlora.flower.coordinator_file import CoordinatorFile
from fedmedlora.flower.may_pass import may_pass
from fedmedlora.provision.keys import to_pem

TIMEOUT_S = 10.0
_PROTOBUF = "application/protobuf"
_WITHDRAWN = "unregistered"


class Answer(Protocol):
    """A protobuf message, as far as it is read here."""

    def ParseFromString(self, serialized: bytes, /) -> int:  # noqa: N802 - protobuf's own name
        """Fill in what ``serialized`` holds."""


A = TypeVar("A", bound=Answer)


class Unreachable(ValueError):  # noqa: N818 - a state, not a mistake
    """No SuperLink answers there."""


@dataclass(frozen=True, slots=True)
class Node:
    """A registered site as SuperLink has it.

    ``public_key``: PEM. ``status``: registered (never seen), online, offline or unregistered (withdrawn).
    ``since``: when it last came or went, ISO 8601; "" where it never did.
    """

    node_id: int
    name: str
    public_key: bytes
    status: str
    since: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What makes SuperLink know the sites that it should. ``refused``: sites whose key was withdrawn before,
    which Flower never takes back."""

    register: tuple[str, ...] = ()
    withdraw: tuple[Node, ...] = ()
    refused: tuple[str, ...] = ()


def usable_keys(folder: Path) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Site -> public key (PEM) of every ``NAME.pub`` in ``folder`` that can be used, and what is wrong with
    each of the others, in words: it cannot be read, holds no such key, or one that stands for another site.

    Raises ``OSError`` where a file cannot be read just now.
    """
    found: dict[str, bytes] = {}
    faults = []
    for path in sorted(folder.glob("*.pub")):
        try:
            check_site_name(path.stem)
            pem = to_pem(path.read_bytes())
        except OSError as error:
            if may_pass(error):
                raise
            faults.append(
                f"{path}: cannot be read ({error.strerror}); chown or chmod it for the user as whom the "
                "coordinator runs"
            )
            continue
        except ValueError as error:
            faults.append(f"{path}: {error}")
            continue
        twice = [name for name, other in found.items() if other == pem]
        if twice:
            faults.append(f"{path}: the same key as {twice[0]}'s; a key stands for one site")
            continue
        found[path.stem] = pem
    return found, tuple(faults)


def change(sites: Mapping[str, bytes], nodes: Sequence[Node], *, all_are_here: bool) -> Change:
    """What is to be done so that ``nodes`` become ``sites`` (name -> public key, PEM).

    A site that has another key than before loses the old one. ``all_are_here``: sites that are not among
    ``sites`` lose theirs too.
    """
    owner = {public_key: name for name, public_key in sites.items()}
    standing = [node for node in nodes if node.status != _WITHDRAWN]
    known = {node.public_key for node in standing}
    burnt = {node.public_key for node in nodes if node.status == _WITHDRAWN}
    return Change(
        register=tuple(n for n, key in sites.items() if key not in known and key not in burnt),
        withdraw=tuple(
            node for node in standing if node.public_key not in owner and (all_are_here or node.name in sites)
        ),
        refused=tuple(n for n, key in sites.items() if key in burnt),
    )


def list_nodes(file: CoordinatorFile) -> tuple[Node, ...]:
    """Every site that SuperLink knows or has known. Raises ``Unreachable``."""
    answer = _ask(file, "list-nodes", ListNodesRequest().SerializeToString(), ListNodesResponse)
    return tuple(
        Node(
            info.node_id,
            info.name,
            info.public_key,
            info.status,
            info.last_activated_at if info.status == "online" else info.last_deactivated_at,
        )
        for info in answer.nodes_info
    )


def apply(file: CoordinatorFile, wanted: Change, sites: Mapping[str, bytes]) -> None:
    """Do what ``change`` found. Raises ``Unreachable``, and ``ValueError`` for what SuperLink refuses."""
    for node in wanted.withdraw:
        request = UnregisterNodeRequest(node_id=node.node_id)
        _ask(file, "unregister-node", request.SerializeToString(), UnregisterNodeResponse)
    for name in wanted.register:
        added = RegisterNodeRequest(public_key=sites[name], name=name)
        _ask(file, "register-node", added.SerializeToString(), RegisterNodeResponse)


def _ask(file: CoordinatorFile, what: str, request: bytes, kind: type[A]) -> A:
    at = file.control_at()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(file.path(file.ca))
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"ca: {file.path(file.ca)}: not a certificate that can be read ({error})") from error
    connection = http.client.HTTPSConnection(at.host, at.port, timeout=TIMEOUT_S, context=context)
    try:
        headers = {"Content-Type": _PROTOBUF, "Accept": _PROTOBUF}
        connection.request("POST", f"/v1/control/{what}", body=request, headers=headers)
        response = connection.getresponse()
        content = response.read()
    except ssl.SSLCertVerificationError as error:
        raise ValueError(
            f"{at}: what answers there has no certificate of {file.ca} ({error.verify_message}); "
            "another program using the port?"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"no SuperLink answers at {at} ({type(error).__name__})") from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise ValueError(f"SuperLink at {at} refused {what} with HTTP status {response.status}")
    answer = kind()
    answer.ParseFromString(content)
    return answer

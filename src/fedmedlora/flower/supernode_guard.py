"""Flower's SuperNode, so that nothing of an app bundle that comes is kept, unpacked or run.

A SuperNode takes a run and its bundle from the coordinator in one function, when the first message of the run
comes (flwr 1.41, ``flwr/supernode/start_client_internal.py``, ``_pull_and_store_message``); all that runs
later, runs out of what that function has stored. It is wrapped here: a run of another app, or with another
bundle, is answered with an error in words, and nothing of it is stored. Otherwise the site's own run id, app
and bundle are stored in place of what came. So no later step, in whatever process, sees a byte or a name of
the coordinator's.

Other versions of Flower may do this elsewhere, and then the wrap would guard nothing. So anything but the
versions that were tested, or a function that looks different, is refused at the start.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import replace

import flwr
from flwr.app import Error, Message
from flwr.app.user_config import UserConfig
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.object_store import ObjectStore
from flwr.supercore.run import Run
from flwr.supernode import start_client_internal as supernode
from flwr.supernode.nodestate import NodeState

from fedmedlora.flower.allows import Refused
from fedmedlora.flower.bundle import Bundle, refuse_other_app, refuse_other_bundle

TESTED = ("1.41",)
_FETCH = "_pull_and_store_message"
_PARAMETERS = (
    "state",
    "object_store",
    "node_config",
    "receive",
    "get_run",
    "get_fab",
    "pull_object",
    "confirm_message_received",
    "trusted_entities",
)

log = logging.getLogger("fedmedlora")


Tell = Callable[[str, str], None]


def install_guard(own: Bundle, tell: Tell) -> None:
    """From now on a SuperNode of this process takes ``own`` and no other; ``tell``: see ``guarded``. Raises
    ``ValueError`` where Flower is not a version in which that is known to hold."""
    refuse_other_flower()
    setattr(supernode, _FETCH, guarded(getattr(supernode, _FETCH), own, tell))


def refuse_other_flower() -> None:
    """Raise ``ValueError`` unless bundles come the way that this module guards."""
    version = flwr.__version__
    reason = ""
    fetch = getattr(supernode, _FETCH, None)
    if version.rsplit(".", 1)[0] not in TESTED:
        reason = "another version"
    elif fetch is None or tuple(inspect.signature(fetch).parameters) != _PARAMETERS:
        reason = f"{_FETCH} is not what it was"
    elif _FETCH not in supernode.start_client_internal.__code__.co_names:
        reason = f"{_FETCH} is not used"
    if reason:
        raise ValueError(
            f"flwr {version}: {reason}, so it is not known whether this site could keep out code of the "
            f"coordinator, and it does not start; tested is flwr {', '.join(TESTED)}: "
            "pip install 'fedmedlora[flower]'"
        )


def guarded(fetch: Callable[..., int | None], own: Bundle, tell: Tell) -> Callable[..., int | None]:
    """``fetch``, Flower's function, for runs of ``own`` alone.

    ``tell``: is given the type of a message that is refused, and why, before the coordinator is. Where it
    raises (the site's log cannot be written), the coordinator is told no more than that its message failed,
    and may ask again.
    """

    def fetch_own(
        *,
        state: NodeState,
        object_store: ObjectStore,
        node_config: UserConfig,
        receive: Callable[[], tuple[Message, ObjectTree] | None],
        get_run: Callable[[int], Run],
        get_fab: Callable[[str, int], Fab],
        pull_object: Callable[[int, str], bytes],
        confirm_message_received: Callable[[int, str], None],
        trusted_entities: dict[str, str] | None,
    ) -> int | None:
        received: list[Message] = []
        declared: dict[int, str] = {}  # run -> the hash under which the coordinator keeps its bundle

        def receive_and_keep() -> tuple[Message, ObjectTree] | None:
            found = receive()
            if found is not None:
                received.append(found[0])
            return found

        def own_run(run_id: int) -> Run:
            run = get_run(run_id)
            refuse_other_run(own, run, run_id)
            declared[run_id] = run.fab_hash
            return replace(run, fab_id=own.app_id, fab_version=own.version, fab_hash=own.sha256)

        def own_fab(_: str, run_id: int) -> Fab:
            came = get_fab(declared[run_id], run_id)
            refuse_other_bundle(own, came.content, declared[run_id])
            return Fab(own.sha256, own.content, came.verifications)

        try:
            return fetch(
                state=state,
                object_store=object_store,
                node_config=node_config,
                receive=receive_and_keep,
                get_run=own_run,
                get_fab=own_fab,
                pull_object=pull_object,
                confirm_message_received=confirm_message_received,
                trusted_entities=trusted_entities,
            )
        except Refused as refusal:
            message = received[-1]
            run_id: int = message.metadata.run_id
            log.error("run %d refused: %s; nothing of it was unpacked", run_id, refusal)
            answer = Error(ErrorCode.INVALID_FAB, str(refusal))
            try:
                tell(message.metadata.message_type, str(refusal))
            except (OSError, ValueError) as failure:
                log.error("the audit log cannot be written, so nothing leaves: %s", failure)
                answer = Error(
                    ErrorCode.CLIENT_APP_CRASHED, "its audit log cannot be written; its own log says why"
                )
            reply = Message(answer, reply_to=message)
            supernode._insert_message(reply, state, object_store)
            return run_id

    return fetch_own


def refuse_other_run(own: Bundle, run: Run, run_id: int) -> None:
    """Raise ``Refused`` unless ``run`` is the one asked for, of the app of ``own``, to be run as a ClientApp.

    Flower starts another program for an "AgentApp".
    """
    if run.run_id != run_id:
        raise Refused(f"the coordinator answers for run {run.run_id} where run {run_id} was asked for")
    if run.primary_task_type != TaskType.SERVER_APP:
        raise Refused(f"the run is of kind {run.primary_task_type[:40]!r}; this site takes studies alone")
    refuse_other_app(own, run.fab_id, run.fab_version)

"""How the processes of one run meet: by `jax.distributed`, from a cluster's environment or an address given by hand."""

import contextlib
import re
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import jax

from subsim.engine.team import PATIENCE, Farewell, Team, leave
from subsim.options import UserError, require

FOLDER = "hosts"


def say(sentence: str) -> None:
    """The farewell of a process whose caller gave none."""
    print(sentence, file=sys.stderr)


@contextlib.contextmanager
def joined(
    out: str | Path,
    hosts: str | None = None,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    farewell: Farewell = say,
) -> Iterator[Team | None]:
    """The processes that run one command together and share the folder `out`; None where only this one runs it.

    To be entered before the first jax computation, with the same options in all processes but for `process`. While it
    lasts, a process that cannot go on because another is gone says so through `farewell` and exits with status
    `team.LOST` at once, wherever it is: what is on disk is whole.

    Args:
        hosts: "auto" has jax find the others (SLURM, TPU pods, GKE); None: by the other three options, or alone.
        coordinator: HOST:PORT at which all can reach process 0.
        processes: how many there are.
        process: which of them this is, counted from 0.

    Raises:
        UserError: the options contradict each other, the processes do not meet, or `out` is not shared.
    """
    if not several(hosts, coordinator, processes, process):
        yield None
        return
    _meet(coordinator, processes, process, farewell)
    team = Team(Path(out) / FOLDER, jax.process_index(), jax.process_count(), farewell)
    # The runtime is let go of before the run. Nothing in it communicates, while the runtime would end this process by a
    # C++ abort, at a moment that cannot be chosen, once another dies; with process 0 immediately.
    try:
        team.sign()
    finally:
        # A barrier: behind it all have signed, and whatever an earlier run left in their files is gone.
        jax.distributed.shutdown()
    with team:
        yield team


def several(hosts: str | None, coordinator: str | None, processes: int | None, process: int | None) -> bool:
    """Whether these options ask for several processes; raises `UserError` where they contradict each other."""
    if coordinator is None or processes is None or process is None:
        by_hand = {"coordinator": coordinator, "processes": processes, "process": process}
        lacking = [name for name, value in by_hand.items() if value is None]
        require(len(lacking) == 3, f"{lacking[0]} is not given; --coordinator, --processes and --process go together.")
        return hosts is not None
    require(hosts is None, "hosts is 'auto', which finds the coordinator by itself; leave out one or the other.")
    require(processes > 0, f"processes is {processes}; it must be at least 1.")
    require(0 <= process < processes, f"process is {process}; it must lie in 0 .. {processes - 1}.")
    return True


def _meet(coordinator: str | None, processes: int | None, process: int | None, farewell: Farewell) -> None:
    """`jax.distributed.initialize`, ended by a sentence where it would crash, or wait in vain."""
    if coordinator is not None:
        _check_address(coordinator, mine=process == 0)
    # It would take SIGTERM for itself.
    jax.config.update("jax_enable_preemption_service", False)
    errors = []

    def initialize() -> None:
        try:
            jax.distributed.initialize(
                coordinator,
                processes,
                process,
                # When time runs out inside jax it aborts; ours runs out first.
                initialization_timeout=int(2 * PATIENCE),
                shutdown_timeout_seconds=int(PATIENCE),
            )
        except Exception as error:
            errors.append(error)

    # In a thread, because it does not heed Ctrl-C.
    thread = threading.Thread(target=initialize, daemon=True)
    thread.start()
    try:
        thread.join(PATIENCE)
    except KeyboardInterrupt:
        leave(farewell, "stopped while waiting for the other processes.", 130)
    if thread.is_alive():
        where = f" at coordinator {coordinator}" if coordinator else ""
        leave(
            farewell,
            f"hosts: the processes did not meet{where} within {PATIENCE:.0f} s; start all of them, with the same "
            "coordinator and number of processes, where they can reach each other.",
            2,
        )
    if errors:
        reason = str(errors[0]).split(". ")[0].rstrip(".")
        raise UserError(
            f"hosts: jax cannot bring the processes together ({reason}); start them by srun, on a TPU pod or on GKE, "
            "or give --coordinator, --processes and --process."
        )


def _check_address(coordinator: str, *, mine: bool) -> None:
    """Raise `UserError` for what jax's runtime would crash on, a port in use, or wait long for, an unknown host."""
    address = re.fullmatch(r"(.+):(\d+)", coordinator)
    if address is None or not 0 < int(address[2]) < 2**16:
        raise UserError(f"coordinator is {coordinator!r}; write HOST:PORT, the same for every process.")
    try:
        socket.getaddrinfo(address[1].strip("[]"), int(address[2]))
        if mine:
            socket.create_server(("", int(address[2]))).close()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"coordinator is {coordinator} ({reason}); name the host of process 0, and a port that is free there."
        ) from None

"""End a command on Ctrl-C or SIGTERM."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

from subsim.cli.terminal import complain


@contextlib.contextmanager
def stopping_at_once() -> Iterator[None]:
    """End the process within a second of Ctrl-C or SIGTERM inside the block, even while XLA runs.

    Python handles a signal only between two bytecode steps, and a compiled program may run for long. Therefore a
    separate thread waits for the signals. Results stay whole: a store survives a kill at any moment.
    """
    # A process that ignores a signal, such as a background process of a shell, still ignores it.
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard, speak = os.pipe()
    os.set_blocking(speak, False)
    before = {number: signal.signal(number, lambda _number, _frame: None) for number in numbers}
    wakeup = signal.set_wakeup_fd(speak)

    def wait() -> None:
        while number := os.read(heard, 1)[0]:
            if number in numbers:
                end(128 + number)

    def end(status: int) -> None:
        # A blocked output must not keep the process from ending.
        threading.Timer(0.5, os._exit, (status,)).start()
        try:
            complain("stopped; what is finished is on disk. Repeat the command to continue.")
            sys.stdout.flush()
        finally:
            os._exit(status)

    watcher = threading.Thread(target=wait, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        os.write(speak, b"\0")
        watcher.join()
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        os.close(heard)
        os.close(speak)

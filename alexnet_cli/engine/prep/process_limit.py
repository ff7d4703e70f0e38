"""How many workers may be started: users and containers have a limit of processes and threads."""

import threading

THREADS_A_WORKER = 2  # its own, and the one that watches its parent
OTHERS = 6  # the pool's own threads, its server, and what tidies up after that


def startable_workers(wanted: int) -> int:
    """Return how many workers can be started, up to so many; 1 is no process of its own.

    A limit can only be found by trying, and a thread counts as much as a process.
    """
    if wanted < 2:
        return wanted
    over, started = threading.Event(), []
    try:
        for _ in range(THREADS_A_WORKER * wanted + OTHERS):
            thread = threading.Thread(target=over.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:  # can't start new thread
        return max(1, (len(started) - OTHERS) // THREADS_A_WORKER)
    finally:
        over.set()
        for thread in started:
            thread.join()
    return wanted

"""`alexnet`, to which something happens at a chosen moment; tools/torture/train_kills runs it.

    TORTURE='{"at": 7, "place": "update", "do": "freeze", "mark": "/tmp/mark"}' \\
        python tools/torture/train_hooks.py train ...

    place   loss, update: within step `at`; stepped: after it; val: in its validation; saving: while
            checkpoint `at` is written; disk: the `at`-th write, fsync or rename of a checkpoint
    rank    of the replica to which it happens, by default the first
    do      freeze: SIGSTOP to itself; kill: SIGKILL to itself; ask, ask all, ask twice: `signal` to
            the process that was started, to all of its session, or to that process twice
    mark    file that is written just before
    orders  file that gets a line for each batch: epoch, step, rank, positions
    soak    file that gets a line every 250 steps: step, resident kB, open files

Replicas are started from this file too, so what is patched here is patched in each of them.
"""

import json
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from alexnet_cli.model import checkpoint
from alexnet_cli.training import trainer
from alexnet_cli.training.run_directory import RunDirectory
from alexnet_cli.training.train_step import TrainStep

if __name__ == "__main__":
    os.environ["TORTURE_MAIN"] = str(os.getpid())
WHAT = {"place": "", "at": 0, "rank": 0, "do": "", "signal": int(signal.SIGTERM)}
WHAT |= json.loads(os.environ.get("TORTURE", "{}"))


def rank() -> int:
    return int(os.environ.get("RANK", 0))


def session() -> list[int]:
    """Return the processes of our session."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(path.name)) == os.getsid(0):
                found.append(int(path.name))
        except OSError:
            pass
    return found


def act() -> None:
    main = int(os.environ["TORTURE_MAIN"])
    Path(WHAT["mark"]).write_text(json.dumps(WHAT))
    if WHAT["do"] == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif WHAT["do"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif WHAT["do"] == "ask all":
        for process in sorted(session(), key=lambda process: process == os.getpid()):
            os.kill(process, WHAT["signal"])
    else:
        os.kill(main, WHAT["signal"])
        if WHAT["do"] == "ask twice":
            time.sleep(0.3)
            os.kill(main, WHAT["signal"])


def happens(place: str, number: int) -> None:
    """Act, once, if this is the moment; a marked moment is past."""
    is_now = (place, number, rank()) == (WHAT["place"], WHAT["at"], WHAT["rank"])
    if is_now and not Path(WHAT["mark"]).exists():
        act()


def hook_steps() -> None:
    real_loss, real_update, real_step = (
        TrainStep.loss,
        TrainStep.update,
        trainer.Trainer._train_step,
    )

    def loss(self, batch, at, num, tally):
        self.torture_step = at.total_steps + 1
        happens("loss", at.total_steps + 1)
        return real_loss(self, batch, at, num, tally)

    def update(self, *arguments):
        happens("update", self.torture_step)
        return real_update(self, *arguments)

    def train_step(self, *arguments):
        real_step(self, *arguments)
        happens("stepped", self.state.total_steps)
        if WHAT.get("soak") and self.state.total_steps % 250 == 0:
            note_size(self.state.total_steps)

    TrainStep.loss, TrainStep.update, trainer.Trainer._train_step = loss, update, train_step


def note_size(step: int) -> None:
    status = Path("/proc/self/status").read_text().splitlines()
    resident = next(line.split()[1] for line in status if line.startswith("VmRSS"))
    num_open = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the listing itself is one
    with Path(WHAT["soak"]).open("a") as file:
        file.write(f"{step} {resident} {num_open}\n")


def hook_validation() -> None:
    real = trainer.score_split

    def score_split(*arguments, before_batch, **options):
        def before():
            happens("val", trainer_of[-1].state.total_steps)
            before_batch()

        return real(*arguments, before_batch=before, **options)

    trainer_of, real_init = [], trainer.Trainer.__init__

    def init(self, *arguments, **options):
        real_init(self, *arguments, **options)
        trainer_of.append(self)

    trainer.Trainer.__init__, trainer.score_split = init, score_split


def hook_saves() -> None:
    real, number = RunDirectory.save, [0]

    def save(self, saved, *, is_best):
        number[0] += 1
        if (WHAT["place"], WHAT["at"]) == ("saving", number[0]):
            happens("saving", number[0])
            time.sleep(2)
        real(self, saved, is_best=is_best)

    RunDirectory.save = save


def hook_orders() -> None:
    real = trainer.batches_of

    def batches_of(split, batch_size, *, shuffle, first_step, **options):
        batches = real(split, batch_size, shuffle=shuffle, first_step=first_step, **options)
        for step, batch in enumerate(batches, first_step):
            row = [shuffle[1], step, rank(), batch.positions.tolist()]
            with Path(WHAT["orders"]).open("a") as file:
                file.write(json.dumps(row) + "\n")
            yield batch

    trainer.batches_of = batches_of


class Counted:
    """A file whose content is written in two parts."""

    def __init__(self, file):
        self.file = file

    def write(self, content) -> None:
        middle = len(content) // 2
        self.file.write(content[:middle])
        self.file.flush()
        at_the_disk()
        self.file.write(content[middle:])
        self.file.flush()
        at_the_disk()


SAVING, COUNT = threading.local(), [0]


def at_the_disk() -> None:
    COUNT[0] += 1
    happens("disk", COUNT[0])


def hook_disk() -> None:
    """Count six moments of every checkpoint file: open, half, written, synced, named, folder."""
    real, real_fsync, real_replace = checkpoint.write_atomically, os.fsync, Path.replace

    @contextmanager
    def write_atomically(path):
        SAVING.now = True
        try:
            with real(path) as file:
                at_the_disk()
                yield Counted(file)
        finally:
            SAVING.now = False

    def after(function):
        def call(*arguments):
            found = function(*arguments)
            if getattr(SAVING, "now", False):
                at_the_disk()
            return found

        return call

    checkpoint.write_atomically = write_atomically
    os.fsync, Path.replace = after(real_fsync), after(real_replace)


hook_steps()
hook_validation()
hook_saves()
if WHAT.get("orders"):
    hook_orders()
if WHAT["place"] == "disk":
    hook_disk()

if __name__ == "__main__":
    from alexnet_cli.cli.app import main

    sys.exit(main())

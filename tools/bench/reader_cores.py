"""What would the reader reach on many cores, and what does it cost the thread that trains?

    python tools/bench/reader_cores.py DATASET [--workers 2 4 8 12 16] [--decode-us 560]
                                       [--batch 512] [--images 12000] [--launches 500]

Many cores are emulated: decoding sleeps without the GIL for as long as it would take, everything
else (look-ups, reading, checksums, hand-over) is done. For threads and for processes it prints
images a second, the processor time of this process per image, and how long this thread takes
between two batches for some launches of a small torch operation, each of which takes the GIL again.
On few cores the images a second end where these are busy.
"""

import argparse
import ctypes
import os
import statistics
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from alexnet_cli.data.batches.loader import epoch_order, load_batches
from alexnet_cli.data.batches.readers import ProcessReader, Reader, ThreadReader
from alexnet_cli.data.shards import images
from alexnet_cli.data.shards.dataset import Split, open_dataset

HEADER_US = 20  # simplejpeg releases the GIL for the header, and again for the image
SET_TIMER_SLACK = 29
LIBRARY = ctypes.CDLL(None)
DECODE_US = "READER_CORES_DECODE_US"


def pretend_to_decode(jpeg: bytes, colorspace: str, buffer: np.ndarray) -> np.ndarray:
    """Take as long as decoding an image would, without a core."""
    LIBRARY.prctl(SET_TIMER_SLACK, 1)
    LIBRARY.usleep(HEADER_US)
    LIBRARY.usleep(int(os.environ[DECODE_US]) - HEADER_US)
    return buffer


images.simplejpeg = SimpleNamespace(decode_jpeg=pretend_to_decode)  # in the processes too


def launch(tensor: torch.Tensor, count: int) -> float:
    """Return the seconds that some small operations take."""
    began = time.perf_counter()
    for _ in range(count):
        tensor.add_(1.0)
    return time.perf_counter() - began


def measure(split: Split, reader: Reader, options: argparse.Namespace) -> tuple[float, ...]:
    """Return images a second, microseconds of this process per image, and seconds of launches."""
    order = np.resize(epoch_order(len(split), 0, 0), options.images)
    tensor, taken = torch.zeros(16), []
    for _ in load_batches(split, order[: 4 * options.batch], options.batch, reader=reader):
        pass
    began, busy = time.perf_counter(), time.process_time()
    for _ in load_batches(split, order, options.batch, reader=reader):
        taken.append(launch(tensor, options.launches))
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    return len(order) / seconds, busy / len(order) * 1e6, statistics.median(taken)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4, 8, 12, 16])
    parser.add_argument("--decode-us", type=int, default=560)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--launches", type=int, default=500)
    options = parser.parse_args()
    os.environ[DECODE_US] = str(options.decode_us)
    torch.set_num_threads(1)
    split = open_dataset(options.dataset).split("train")
    alone = statistics.median(launch(torch.zeros(16), options.launches) for _ in range(20))
    print(f"{options.launches} launches alone: {alone * 1e3:.2f} ms")
    for count in options.workers:
        for name, open_reader in (
            ("threads", lambda count=count: ThreadReader(count)),
            ("processes", lambda count=count: ProcessReader(split, count)),
        ):
            with open_reader() as reader:
                speed, busy, launches = measure(split, reader, options)
            print(
                f"{count:3} {name:9} {speed:8.0f} images/s   {busy:6.1f} us of this process per "
                f"image   launches {launches * 1e3:.2f} ms",
                flush=True,
            )


if __name__ == "__main__":
    main()

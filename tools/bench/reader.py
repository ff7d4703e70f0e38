"""How fast are training batches read, against decoding alone and against webdataset?

One round runs every variant once, the order turned round by round; ratios are taken inside a round
and their median is printed.

    python tools/bench/reader.py DATASET [--images 10000] [--batch 128] [--threads 2] [--rounds 5]
                                 [--memory] [--start-up]

`decode only` decodes the same JPEGs with simplejpeg on as many threads, into one buffer each, from
memory: no reader can be faster. `webdataset` is its WebLoader with as many worker processes,
decoding with simplejpeg too, in stored order. `fresh memory` is our reader without its ring of
buffers, `processes` the same number of processes instead of threads, and `raw` reads images from
the cache of `alexnet train --cache raw`, which it builds in DATASET. Page faults are those of this
process.

Processor time is that of all threads of this process; a machine that others use too makes the
images a second uncertain, but hardly that. With --memory, 100,000 images are read and the
process's memory is shown on the way. With --start-up, an index of 1.28 million images in 1,281
shards is made, and the time to the first batch of it taken, in a process of its own.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import simplejpeg
import torch
import webdataset

from alexnet_cli.data.batches.buffers import Buffers
from alexnet_cli.data.batches.loader import epoch_order, load_batches
from alexnet_cli.data.batches.raw_cache import with_raw_cache
from alexnet_cli.data.batches.readers import ProcessReader, Reader, ThreadReader
from alexnet_cli.data.shards.dataset import SAMPLE_DTYPE, Dataset, Split, open_dataset, samples_name
from alexnet_cli.data.shards.index import FileRecord, Index, Shard, SplitIndex, write_index
from alexnet_cli.data.shards.tar_layout import BLOCK, header
from alexnet_cli.types import ImageClass


class FreshBuffers(Buffers):
    """Memory that is never reused."""

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return a new array."""
        return np.empty(shape, np.uint8)


def time_ours(split: Split, options: argparse.Namespace, reader: Reader) -> float:
    """Return the images a second of our reader, in a random order."""
    order = np.resize(epoch_order(len(split), 0, 0), options.images)
    began, seen = time.perf_counter(), 0
    for batch in load_batches(split, order, options.batch, reader=reader):
        seen += len(batch.labels)
    return seen / (time.perf_counter() - began)


def time_decoding(split: Split, options: argparse.Namespace) -> float:
    """Return the images a second of decoding alone."""
    positions = np.resize(np.arange(len(split)), options.images).tolist()
    kept = [split.jpeg(position) for position in range(len(split))]
    jpegs = [kept[position] for position in positions]
    began = time.perf_counter()
    with ThreadPoolExecutor(options.threads) as pool:
        list(pool.map(decode_all, np.array_split(np.array(jpegs, object), options.threads)))
    return len(jpegs) / (time.perf_counter() - began)


def decode_all(jpegs: np.ndarray) -> None:
    """Decode into one buffer, again and again."""
    height, width, _, _ = simplejpeg.decode_jpeg_header(jpegs[0])
    buffer = np.empty((height, width, 3), np.uint8)
    for jpeg in jpegs:
        simplejpeg.decode_jpeg(jpeg, "RGB", buffer=buffer)


def decode_sample(sample: dict) -> tuple[torch.Tensor, int]:
    """Decode one sample of webdataset."""
    pixels = simplejpeg.decode_jpeg(sample["jpg"], "RGB")
    return torch.from_numpy(pixels), int(sample["cls"])


def time_webdataset(dataset: Dataset, split: Split, options: argparse.Namespace) -> float:
    """Return the images a second of webdataset's own loader."""
    shards = [str(dataset.folder / shard.name) for shard in split.shards]
    samples = webdataset.WebDataset(shards, shardshuffle=False).map(decode_sample)
    loader = webdataset.WebLoader(
        samples.batched(options.batch), batch_size=None, num_workers=options.threads
    )
    began, seen = time.perf_counter(), 0
    for _, labels in loader:
        seen += len(labels)
        if seen >= options.images:
            break
    return seen / (time.perf_counter() - began)


def measure(variant: Callable[[], float]) -> tuple[float, float, int]:
    """Return a variant's images a second, its processor time, and its page faults."""
    began, faults = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    speed = variant()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return speed, time.process_time() - began, faults


def show_speeds(dataset: Dataset, options: argparse.Namespace) -> None:
    """Time every variant in turn and print the medians."""
    split = dataset.split("train")
    raw = with_raw_cache(dataset, ("train",)).split("train")
    rounds = []
    with (
        ThreadReader(options.threads) as ours,
        ThreadReader(options.threads, FreshBuffers()) as fresh,
        ProcessReader(split, options.threads) as processes,
    ):
        variants = {
            "ours": partial(time_ours, split, options, ours),
            "fresh memory": partial(time_ours, split, options, fresh),
            "processes": partial(time_ours, split, options, processes),
            "raw": partial(time_ours, raw, options, ours),
            "decode only": partial(time_decoding, split, options),
            "webdataset": partial(time_webdataset, dataset, split, options),
        }
        for name in ("ours", "processes"):
            variants[name]()  # once before, as they stay open from epoch to epoch
        for number in range(options.rounds):
            names = list(variants)
            turned = names[number % len(names) :] + names[: number % len(names)]
            rounds.append({name: measure(variants[name]) for name in turned})
    for name in variants:
        speed = statistics.median(taken[name][0] for taken in rounds)
        ratio = statistics.median(taken["ours"][0] / taken[name][0] for taken in rounds)
        faults = statistics.median(taken[name][2] for taken in rounds) / options.images
        print(
            f"{name:12} {speed:8.0f} images/s   ours is {ratio:.2f} times that   "
            f"{faults:.2f} page faults per image"
        )
    # webdataset's work is done by other processes.
    ratio = statistics.median(taken["decode only"][1] / taken["ours"][1] for taken in rounds)
    print(f"in processor time, ours is {ratio:.2f} times decode only")


def show_memory(split: Split, options: argparse.Namespace) -> None:
    """Read the split again and again, and print the memory after 10,000 and more images."""
    order = np.resize(epoch_order(len(split), 0, 0), 100_000)
    seen, marks = 0, [10_000, 25_000, 50_000, 75_000, 100_000]
    for batch in load_batches(split, order, options.batch, num_threads=options.threads):
        seen += len(batch.labels)
        if seen >= marks[0]:
            marks.pop(0)
            print(f"{seen:8,} images: {memory('RssAnon'):.1f} MB, in all {memory('VmRSS'):.1f}")


def memory(field: str) -> float:
    """Return a figure of /proc/self/status in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1e3


def make_large_index(folder: Path, num_samples: int, num_classes: int) -> None:
    """Make a dataset of ImageNet's size whose shards hold one image, again and again."""
    jpeg = simplejpeg.encode_jpeg(
        np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    )
    numbers = np.arange(num_samples)
    samples = np.zeros(num_samples, SAMPLE_DTYPE)
    samples["shard"], samples["number"], samples["label"] = numbers // 1000, numbers, numbers % 1000
    samples["offset"], samples["length"], samples["crc32"] = BLOCK, len(jpeg), zlib.crc32(jpeg)
    shards = []
    for first in range(0, num_samples, 1000):
        shard = Shard(f"train-{first // 1000:06d}.tar", len(samples[first:][:1000]), 22 << 20, "")
        with (folder / shard.name).open("wb") as file:
            file.write(header(f"train-{first:08d}.jpg", len(jpeg)) + jpeg)
            file.truncate(shard.num_bytes)  # the rest takes no room on the disk
        shards.append(shard)
    path = folder / samples_name("train")
    np.save(path, samples)
    files = {path.name: FileRecord.of(path.read_bytes())}
    splits = {"train": SplitIndex(num_samples, num_samples, 0, tuple(shards))}
    classes = tuple(ImageClass(f"n{label:08d}", f"class {label}") for label in range(num_classes))
    write_index(folder, Index({"size": 256}, {}, classes, splits, "bench", files=files))


FIRST_BATCH = """
import sys, time
from pathlib import Path
from alexnet_cli.data.shards.dataset import open_dataset
from alexnet_cli.data.batches.loader import epoch_order, load_batches
began = time.perf_counter()
split = open_dataset(Path(sys.argv[1])).split("train")
next(load_batches(split, epoch_order(len(split), 0, 0), 128))
print(time.perf_counter() - began)
sys.stdout.flush()
"""


def show_start_up(options: argparse.Namespace) -> None:
    """Print how long it takes to the first batch of 1.28 million images."""
    taken = []
    with tempfile.TemporaryDirectory(prefix="reader.") as folder:
        make_large_index(Path(folder), 1_281_167, 1000)
        for _ in range(options.rounds):
            began = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-c", FIRST_BATCH, folder], stdout=subprocess.PIPE
            )
            opened = float(process.stdout.readline())
            taken.append((opened, time.perf_counter() - began))
            process.communicate()
    opened, started = (statistics.median(times) for times in zip(*taken, strict=True))
    print(f"1,281,167 images: first batch {opened:.2f} s after opening, {started:.2f} after start")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--start-up", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = open_dataset(options.dataset)
    if options.memory:
        show_memory(dataset.split("train"), options)
    if options.start_up:
        show_start_up(options)
    if not (options.memory or options.start_up):
        show_speeds(dataset, options)


if __name__ == "__main__":
    main()

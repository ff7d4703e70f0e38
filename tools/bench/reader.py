"""How fast are training batches read, against decoding alone and against webdataset?

One round runs every variant once, the order turned round by round; ratios are taken inside a round
and their median is printed.

    python tools/bench/reader.py DATASET [--images 10000] [--batch 128] [--threads 2] [--rounds 5]

`decode only` decodes the same JPEGs with simplejpeg on as many threads, into one buffer each, from
memory: no reader can be faster. `webdataset` is its WebLoader with as many worker processes,
decoding with simplejpeg too, in stored order.
"""

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import simplejpeg
import torch
import webdataset

from alexnet_cli.data.dataset import Dataset, Split, open_dataset
from alexnet_cli.data.loader import epoch_order, load_batches


def time_ours(split: Split, options: argparse.Namespace) -> float:
    """Return the images a second of our reader, in a random order."""
    order = epoch_order(len(split), 0, 0)[: options.images]
    began, seen = time.perf_counter(), 0
    for batch in load_batches(split, order, options.batch, num_threads=options.threads):
        seen += len(batch.labels)
    return seen / (time.perf_counter() - began)


def time_decoding(split: Split, options: argparse.Namespace) -> float:
    """Return the images a second of decoding alone."""
    jpegs = [bytes(split.jpeg(i)) for i in range(min(options.images, len(split)))]
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


def main() -> None:
    """Time every variant in turn and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = open_dataset(options.dataset)
    split = dataset.split("train")
    variants = {
        "ours": partial(time_ours, split, options),
        "decode only": partial(time_decoding, split, options),
        "webdataset": partial(time_webdataset, dataset, split, options),
    }
    rounds = []
    for number in range(options.rounds):
        names = list(variants)
        turned = names[number % len(names) :] + names[: number % len(names)]
        rounds.append({name: variants[name]() for name in turned})
    for name in variants:
        speed = statistics.median(speeds[name] for speeds in rounds)
        ratio = statistics.median(speeds["ours"] / speeds[name] for speeds in rounds)
        print(f"{name:12} {speed:8.0f} images/s   ours is {ratio:.2f} times that")


if __name__ == "__main__":
    main()

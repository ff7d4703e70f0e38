"""The samples of a shard against the sample index: every block of them, every label.

Where samples begin is known from the index, so the headers of a whole window are compared as one
array, and that costs a small share of hashing the same bytes.

N samples of a window.
"""

import json
import zlib
from dataclasses import dataclass, field

import numpy as np
import simplejpeg

from alexnet_cli.data.shards.tar_layout import (
    BLOCK,
    END_BYTES,
    compare_headers,
    differing,
    filled,
    headers,
    not_filled,
    sizes_in,
    text_blocks,
)

MAX_DAMAGED = 5  # samples of a shard that are shown; the others are counted


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a dataset that is not as it was recorded.

    Attributes:
        file: its name in the dataset's folder.
        key: of the sample; empty if it is the file as a whole.
    """

    file: str
    key: str
    what: str
    expected: str
    found: str

    def __str__(self) -> str:
        where = f"{self.file}: sample {self.key}" if self.key else self.file
        return f"{where}: {self.what}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True)
class Window:
    """Whole samples in memory, without a gap.

    Attributes:
        rows: of the sample index.
        starts, ends: int64 (N,), where each begins and ends in the content.
        is_last: nothing but zeros may follow its last sample.
    """

    rows: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    content: memoryview
    is_last: bool

    @property
    def lengths(self) -> np.ndarray:
        """int64 (N,): bytes of the JPEGs."""
        return self.rows["length"].astype(np.int64)

    def blocks(self, at: np.ndarray) -> np.ndarray:
        """Return the block at each of some places: uint8 (N, 512)."""
        whole = len(self.content) // BLOCK * BLOCK
        blocks = np.frombuffer(self.content[:whole], np.uint8).reshape(-1, BLOCK)
        return blocks[at // BLOCK]

    def only(self, chosen: slice, *, is_last: bool) -> "Window":
        """Return the same bytes with some of the samples."""
        rows, starts, ends = self.rows[chosen], self.starts[chosen], self.ends[chosen]
        return Window(rows, starts, ends, self.content, is_last)


@dataclass(slots=True)
class SampleAudit:
    """What is wrong with the samples of one shard, window after window.

    Attributes:
        file: the shard's name.
        wnids: the classes by label.
        check_pictures: compare the checksum of every JPEG.
        decode_size: also decode it, to this size; 0 to leave that.
    """

    file: str
    split: str
    wnids: tuple[str, ...]
    check_pictures: bool
    decode_size: int
    findings: list[Finding] = field(default_factory=list)
    damaged: set[str] = field(default_factory=set)
    notes: list[bytes] = field(init=False)

    def __post_init__(self) -> None:
        notes = (json.dumps({"wnid": wnid, "source": ""}) for wnid in self.wnids)
        self.notes = [note.removesuffix('"}').encode("ascii") for note in notes]

    def check(self, window: Window) -> None:
        """Look at every byte of a window's samples, but for the JPEGs' own."""
        window = self._without_cut_off(window)
        keys = [f"{self.split}-{number:08d}" for number in window.rows["number"].tolist()]
        labels = [str(label) for label in window.rows["label"].tolist()]
        jpg_at, sizes = window.starts, window.lengths
        cls_at = jpg_at + BLOCK + filled(sizes)
        self._check_headers(window, keys, "jpg", jpg_at, sizes)
        self._check_filling(window, keys, "jpg", jpg_at + BLOCK, sizes)
        sizes = np.array([len(label) for label in labels], np.int64)
        self._check_headers(window, keys, "cls", cls_at, sizes)
        self._check_labels(window, keys, labels, cls_at + BLOCK)
        self._check_notes(window, keys, cls_at + 2 * BLOCK)
        if self.check_pictures or self.decode_size:
            self._check_pictures(window, keys)

    def shown(self) -> list[Finding]:
        """Return the findings about the first damaged samples, and how many more there are."""
        more = len(self.damaged) - MAX_DAMAGED
        if more <= 0:
            return self.findings
        what = ("samples beside these", "whole", f"{more} damaged")
        return [*self.findings, Finding(self.file, "", *what)]

    def check_rest(self, content: memoryview) -> None:
        """Look at what comes after the last window."""
        if not self.damaged and np.frombuffer(content, np.uint8).any():
            self._find("", "after the last sample", "zeros", "other bytes")

    def _find(self, key: str, what: str, expected: str, found: str) -> None:
        self.damaged.add(key)
        if len(self.damaged) <= MAX_DAMAGED:
            self.findings.append(Finding(self.file, key, what, expected, found))

    def _without_cut_off(self, window: Window) -> Window:
        """Report the samples that the file no longer has, and leave them out."""
        needed = window.ends.copy()
        if window.is_last and len(needed):  # at least to the content of its KEY.json
            needed[-1] = window.starts[-1] + 4 * BLOCK + filled(window.lengths[-1])
        num_whole = int(np.searchsorted(needed, len(window.content), side="right"))
        if num_whole == len(window.rows):
            return window
        for number in window.rows["number"][num_whole:].tolist():
            key = f"{self.split}-{number:08d}"
            self._find(key, "its place in the tar", "the sample", "the end of the file before it")
        return window.only(slice(0, num_whole), is_last=False)

    def _check_headers(
        self, window: Window, keys: list[str], suffix: str, at: np.ndarray, sizes: np.ndarray
    ) -> None:
        expected = headers([f"{key}.{suffix}" for key in keys], sizes)
        found = window.blocks(at)
        for i in differing(expected, found):
            words = compare_headers(expected[i].tobytes(), found[i].tobytes())
            self._find(keys[i], f"the header of KEY.{suffix}", *words)

    def _check_filling(
        self, window: Window, keys: list[str], suffix: str, at: np.ndarray, sizes: np.ndarray
    ) -> None:
        """Check that the bytes between a content and the next block are zeros."""
        last = window.blocks(at + np.maximum(filled(sizes) - BLOCK, 0))
        for i in not_filled(last, sizes):
            self._find(keys[i], f"after the content of KEY.{suffix}", "zeros", "other bytes")

    def _check_labels(
        self, window: Window, keys: list[str], labels: list[str], at: np.ndarray
    ) -> None:
        found = window.blocks(at)
        for i in differing(text_blocks(labels), found):
            text = ascii(found[i].tobytes().rstrip(b"\0").decode("latin-1"))[:40]
            self._find(keys[i], "the label in KEY.cls", labels[i], text)

    def _check_notes(self, window: Window, keys: list[str], at: np.ndarray) -> None:
        """Check KEY.json, and that the next sample begins where it ends."""
        sizes = sizes_in(window.blocks(at))
        self._check_headers(window, keys, "json", at, np.maximum(sizes, 0))
        ends = at + BLOCK + filled(sizes)
        expected = np.minimum(window.ends, len(window.content))
        if window.is_last and len(ends):  # its end is only known from here
            expected[-1] = min(ends[-1], len(window.content))
        fits = (sizes >= 0) & (ends == expected)
        for i in np.flatnonzero(~fits):
            self._find(keys[i], "the size of KEY.json", f"an end at {expected[i]}", f"{ends[i]}")
        kept = np.flatnonzero(fits)
        starts, stops = at + BLOCK, at + BLOCK + sizes
        self._check_filling(window, [keys[i] for i in kept], "json", starts[kept], sizes[kept])
        labels = window.rows["label"].tolist()
        for i, start, stop in zip(kept, starts[kept].tolist(), stops[kept].tolist(), strict=True):
            self._check_note(keys[i], labels[i], window.content[start:stop].tobytes())
        if window.is_last and fits.all():
            self._check_end(window, keys[-1] if keys else "", int(ends[-1]) if keys else 0)

    def _check_note(self, key: str, label: int, content: bytes) -> None:
        known = label < len(self.wnids)
        if known and not self.check_pictures and content.startswith(self.notes[label]):
            return  # twice as fast as to parse it; a wrong hash leads to the other way
        expected = ascii(self.wnids[label]) if known else f"none, label {label} has no class"
        try:
            found = ascii(json.loads(content)["wnid"])
        except (ValueError, TypeError, KeyError, RecursionError):
            found = "no such note"
        if found != expected:
            self._find(key, "the wnid in KEY.json", expected, found[:40])

    def _check_end(self, window: Window, key: str, end: int) -> None:
        rest = np.frombuffer(window.content[end:], np.uint8)
        if rest.any():
            position = np.flatnonzero(rest)[0]
            self._find(key, "after the last sample", "zeros", f"other bytes {position} bytes later")
        elif len(rest) < END_BYTES:
            self._find(key, "the end of the tar", "two blocks of zeros", f"{len(rest)} bytes")

    def _check_pictures(self, window: Window, keys: list[str]) -> None:
        crcs = window.rows["crc32"].tolist() if "crc32" in window.rows.dtype.names else None
        starts = window.starts + BLOCK
        ends = starts + window.lengths
        for i, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            jpeg = window.content[start:end]
            if crcs and (crc := zlib.crc32(jpeg)) != crcs[i]:
                self._find(keys[i], "CRC-32 of the JPEG", f"{crcs[i]:08x}", f"{crc:08x}")
            elif self.decode_size:
                self._decode(keys[i], jpeg)

    def _decode(self, key: str, jpeg: memoryview) -> None:
        side = self.decode_size
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(jpeg)
            found = f"{width} x {height}"
            if (height, width) == (side, side):  # a larger one could fill the memory
                simplejpeg.decode_jpeg(jpeg, "RGB")
                return
        except ValueError as error:
            found = " ".join(str(error).split())[:80]
        self._find(key, "decoding the JPEG", f"{side} x {side} pixels", found)

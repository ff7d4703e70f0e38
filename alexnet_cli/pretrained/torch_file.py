"""The tensors of a file that `torch.save` wrote, where torch is not installed.

Such a file is a zip archive: NAME/data.pkl, a pickle of the object, and NAME/data/KEY, the values
of one storage each. Before torch 1.6 it was a row of pickles, with the values behind them.
Unpickling calls what the pickle names; here it may name what a state dict consists of and nothing
else, as with `torch.load(weights_only=True)`.
"""

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_cli.pretrained.weights import MAX_FILE_BYTES

BFLOAT16 = "V2"  # numpy has no such type
DTYPES = {
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": BFLOAT16,
    "DoubleStorage": "<f8",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
OLD_FORMAT = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # a pickle of torch's magic number
MAX_PICKLE_BYTES = 16 << 20  # those of 10,000 tensors take one or two
MAX_PROTOCOL = 4  # 5 adds buffers, which torch does not use; its default is 2
PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
# What zipfile, pickle and numpy raise for damaged files; ArithmeticError for numbers too large.
FAULTS = (
    *(zipfile.BadZipFile, pickle.UnpicklingError, EOFError, OSError, RuntimeError),
    *(LookupError, TypeError, AttributeError, ArithmeticError),
)

Storages = Callable[[str, str, int], np.ndarray]  # of a key, dtype and number of values


def read_torch_file(path: Path) -> Any:
    """Return the object in a file, with numpy arrays for tensors; see `as_float32`.

    Raises:
        ValueError: if the file is damaged, is none of `torch.save`, or names anything else.
    """
    try:
        if zipfile.is_zipfile(path):
            return _read_archive(path)
        with path.open("rb") as file:
            return _read_old_format(file, path.stat().st_size)
    except FAULTS as error:
        raise ValueError(str(error)) from error


def as_float32(array: np.ndarray) -> np.ndarray:
    """Return an array of `read_torch_file` as float32."""
    if array.dtype == BFLOAT16:  # the upper half of a float32
        return (array.view("<u2").astype("<u4") << 16).view("<f4")
    return array.astype(np.float32, copy=False)


def _read_archive(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it is compressed")  # torch.save compresses nothing
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("it is no archive of one object")
        folder = pickles[0].removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in names and archive.read(order) != b"little":
            raise ValueError("its numbers are not little-endian")
        found: dict[str, np.ndarray] = {}

        def storage(key: str, dtype: str, _number: int) -> np.ndarray:
            if key not in found:
                found[key] = np.frombuffer(archive.read(f"{folder}data/{key}"), dtype)
            return found[key]

        if archive.getinfo(pickles[0]).file_size > MAX_PICKLE_BYTES:
            raise ValueError("its list of tensors is too long")
        return _load(io.BytesIO(archive.read(pickles[0])), storage)


def _read_old_format(file: io.BufferedReader, num_bytes: int) -> Any:
    pickles = io.BytesIO(file.read(min(MAX_PICKLE_BYTES, num_bytes)))
    if pickles.read(len(OLD_FORMAT)) != OLD_FORMAT:
        raise ValueError("it is not a file of torch.save")
    found: dict[str, np.ndarray] = {}

    def storage(key: str, dtype: str, number: int) -> np.ndarray:
        if key not in found:
            if number * np.dtype(dtype).itemsize > num_bytes:
                raise ValueError("it is cut short")
            found[key] = np.zeros(number, dtype)  # filled below
        return found[key]

    _version, _system = _load(pickles, storage), _load(pickles, storage)
    content, keys = _load(pickles, storage), _load(pickles, storage)
    file.seek(pickles.tell())
    for key in keys:
        number, values = int.from_bytes(file.read(8), "little"), found[key]
        if number != len(values) or file.readinto(values.data.cast("B")) != values.nbytes:
            raise ValueError("it is cut short")
    return content


def _load(file: io.BytesIO, storages: Storages) -> Any:
    """Return the object of the next pickle, in memory that its length explains.

    pickle allocates what a length or a place in its memo says before it reads on.

    Raises:
        ValueError: if it may take more, or is not a pickle.
    """
    start = file.tell()
    most = len(file.getbuffer())
    for opcode, argument, _ in pickletools.genops(file):  # no length reaches beyond the end
        if opcode.name in PUTS and int(argument or 0) > most:
            raise ValueError(f"it puts an object in place {argument:,}")
        if opcode.proto > MAX_PROTOCOL:
            raise ValueError(f"it uses {opcode.name}")
    file.seek(start)
    return _Unpickler(file, storages).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, storages: Storages) -> None:
        super().__init__(file)
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        found = ALLOWED.get((module, name))
        if found is None:
            raise ValueError(f"it names {module}.{name}")
        return found

    def persistent_load(self, pid: Any) -> np.ndarray:
        """Return the values of a storage: pid is (kind, dtype, key, device, number, ...)."""
        kind, dtype, key, _device, number, *view = pid
        if kind != "storage" or dtype not in DTYPES.values() or any(view):
            raise ValueError(f"it holds {kind!r} of {dtype!r}")
        return self._storages(key, dtype, number)


class _Dict(OrderedDict):
    """A dict of a file, which cannot replace its methods."""

    def __setstate__(self, state: Any) -> None:
        pass


def _tensor(
    storage: np.ndarray, offset: int, shape: tuple, strides: tuple, *_others: Any
) -> np.ndarray:
    """Return part of a storage as an array; strides count numbers."""
    if not isinstance(storage, np.ndarray) or min((offset, *shape, *strides), default=0) < 0:
        raise ValueError("it has a tensor that is none")
    size = int(np.prod(shape, dtype=object))
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if size and (last >= len(storage) or size * storage.itemsize > MAX_FILE_BYTES):
        raise ValueError("it has a tensor without values")
    steps = [stride * storage.itemsize for stride in strides]
    part = storage[min(offset, len(storage)) :]
    return np.lib.stride_tricks.as_strided(part, shape, steps, writeable=False)


def _parameter(data: np.ndarray, *_others: Any) -> np.ndarray:
    return data


ALLOWED = {
    ("collections", "OrderedDict"): _Dict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}

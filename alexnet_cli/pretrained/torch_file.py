"""The tensors of a file that `torch.save` wrote, where torch is not installed.

Such a file is a zip archive: NAME/data.pkl, a pickle of the object, and NAME/data/KEY, the values
of one storage each. Unpickling calls what the pickle names; here it may name what a state dict
consists of and nothing else, as with `torch.load(weights_only=True)`.
"""

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_cli.pretrained.weights import MAX_FILE_BYTES

DTYPES = {
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "DoubleStorage": "<f8",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
MAX_PICKLE_BYTES = 16 << 20  # those of 10,000 tensors take one or two
MAX_PROTOCOL = 4  # 5 adds buffers, which torch does not use; its default is 2
PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
# What zipfile, pickle and numpy raise for damaged files; ArithmeticError for numbers too large.
FAULTS = (
    *(zipfile.BadZipFile, pickle.UnpicklingError, EOFError, OSError, RuntimeError),
    *(LookupError, TypeError, AttributeError, ArithmeticError),
)


def read_torch_file(path: Path) -> Any:
    """Return the object in a file, with numpy arrays for tensors.

    Raises:
        ValueError: if the file is damaged, is none of `torch.save`, or names anything else.
    """
    try:
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
            if archive.getinfo(pickles[0]).file_size > MAX_PICKLE_BYTES:
                raise ValueError("its list of tensors is too long")
            content = archive.read(pickles[0])
            _check_memory(content)
            return _Unpickler(io.BytesIO(content), archive, folder).load()
    except FAULTS as error:
        raise ValueError(str(error)) from error


def _check_memory(content: bytes) -> None:
    """Check that unpickling takes no more memory than its content explains.

    pickle allocates what a length or a place in its memo says before it reads on.

    Raises:
        ValueError: if it may take more, or is not a pickle.
    """
    for opcode, argument, _ in pickletools.genops(content):  # no length reaches beyond the end
        if opcode.name in PUTS and int(argument or 0) > len(content):
            raise ValueError(f"it puts an object in place {argument:,}")
        if opcode.proto > MAX_PROTOCOL:
            raise ValueError(f"it uses {opcode.name}")


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self._archive, self._folder = archive, folder
        self._contents: dict[str, bytes] = {}  # of storages, each read once

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        found = ALLOWED.get((module, name))
        if found is None:
            raise ValueError(f"it names {module}.{name}")
        return found

    def persistent_load(self, pid: Any) -> np.ndarray:
        """Return the values of a storage: pid is (kind, dtype, key, device, number)."""
        kind, dtype, key, _device, _number = pid
        if kind != "storage" or dtype not in DTYPES.values():
            raise ValueError(f"it holds {kind!r} of {dtype!r}")
        name = f"{self._folder}data/{key}"
        if name not in self._contents:
            self._contents[name] = self._archive.read(name)
        return np.frombuffer(self._contents[name], dtype)


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
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
}

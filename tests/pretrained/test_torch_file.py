"""Files of torch.save read without torch, against torch.load."""

import io
import pickle
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet_cli.pretrained.torch_file import OLD_FORMAT, as_float32, read_torch_file

WIDE = torch.arange(60.0).reshape(5, 12)


def saved(content, path: Path) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "tensor",
    [
        WIDE,
        WIDE.t(),
        WIDE[1:4, 2::3],
        WIDE[4, 11],
        WIDE[:0],
        torch.zeros(()),
        torch.ones(1).expand(7),
        WIDE.half(),
        WIDE.double(),
        WIDE.long(),
        WIDE.int(),
        WIDE.to(torch.uint8),
        WIDE > 20,
        torch.nn.Parameter(WIDE[2]),
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    ],
    ids=lambda tensor: f"{tensor.dtype}, {tuple(tensor.shape)}, {tensor.stride()}",
)
def test_tensor_has_the_values_of_torch(tensor, tmp_path):
    found = read_torch_file(saved({"x": tensor}, tmp_path / "x.pth"))["x"]
    expected = tensor.detach().numpy()
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert (found == expected).all()


def test_bfloat16_is_read_as_float32(tmp_path):
    for is_new in (True, False):
        tensor = torch.randn(7, 5).bfloat16().t()
        torch.save({"x": tensor}, tmp_path / "x.pth", _use_new_zipfile_serialization=is_new)
        found = as_float32(read_torch_file(tmp_path / "x.pth")["x"])
        assert (found == tensor.float().numpy()).all()


def test_format_before_torch_1_6_is_read(tmp_path):
    path = tmp_path / "x.pth"
    content = {"a": WIDE, "b": WIDE[1:3].t(), "c": torch.nn.Parameter(WIDE.half()), "n": [1, None]}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    found = read_torch_file(path)
    for name in "abc":
        assert (found[name] == content[name].detach().numpy()).all()
    assert np.shares_memory(found["a"], found["b"])
    assert found["n"] == [1, None]
    whole = path.read_bytes()
    for end in (len(whole) - 1, len(whole) // 2, 200, 20, 3):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"."):
            read_torch_file(path)


def test_other_parts_of_a_state_are_kept(tmp_path):
    content = {"state": OrderedDict(a=WIDE, b=WIDE[1]), "epoch": 3, "names": ["x", ("y", None)]}
    found = read_torch_file(saved(content, tmp_path / "x.pth"))
    assert (found["state"]["b"] == WIDE[1].numpy()).all()
    assert (found["epoch"], found["names"]) == (3, ["x", ("y", None)])


def test_tensors_of_one_storage_share_its_memory(tmp_path):
    large = torch.arange(1e5)
    path = saved({"whole": large, "parts": [large[i:] for i in range(50)]}, tmp_path / "x.pth")
    found = read_torch_file(path)
    assert np.shares_memory(found["whole"], found["parts"][7])
    assert (found["parts"][7] == large[7:].numpy()).all()


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "content",
    [
        Calls(Path.touch, Path("ran")),
        Calls(eval, "open('ran', 'w')"),
        Calls(torch.zeros, 3),
        Calls(getattr, "text", "join"),
        torch.nn.Linear(2, 2),
    ],
)
def test_nothing_else_is_called(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="it names"):
        read_torch_file(saved({"x": content}, tmp_path / "x.pth"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}r\x00\x00\x00\x10.",  # place 2**28 of the memo: four gigabytes
        b"\x80\x02}p268435456\n.",
        b"\x80\x05\x96\x00\x00\x00\x00\x10\x00\x00\x00.",  # a bytearray of 64 gigabytes
        b"\x80\x04\x8e\x00\x00\x00\x00\x10\x00\x00\x00.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff}.",
        b"}",
    ],
)
def test_memory_is_bounded_by_the_size_of_the_file(content, is_new, tmp_path):
    if is_new:
        with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
            archive.writestr("net/data.pkl", content)
    else:
        (tmp_path / "x.pth").write_bytes(OLD_FORMAT + content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"."):
            read_torch_file(tmp_path / "x.pth")
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_dict_keeps_its_methods(tmp_path):
    path = tmp_path / "x.pth"
    content = b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\0\0\0itemsK\x01sb."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", content)
    assert list(read_torch_file(path).items()) == []


class Storage:
    """Pickles as a reference to the values of a storage."""


def write(path: Path, *rebuilt, values: bytes = bytes(40)) -> Path:
    """Write a file with one tensor, rebuilt from a storage of ten numbers and other arguments."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, item):
            if isinstance(item, Storage):
                return ("storage", torch.FloatStorage, "0", "cpu", 10)
            return None

    content = io.BytesIO()
    Pickler(content, 2).dump({"x": Calls(torch._utils._rebuild_tensor_v2, Storage(), *rebuilt)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", content.getvalue())
        archive.writestr("net/data/0", values)
    return path


def test_written_by_hand_as_by_torch(tmp_path):
    path = write(tmp_path / "x.pth", 2, (2, 3), (3, 1), values=np.arange(10, dtype="<f4").tobytes())
    assert read_torch_file(path)["x"].tolist() == [[2, 3, 4], [5, 6, 7]]


@pytest.mark.parametrize(
    "rebuilt",
    [
        (0, (11,), (1,)),
        (5, (6,), (1,)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (-2,), (1,)),
        (0, (2, 2), (9, 1)),
        (0, (10**12,), (0,)),
        (10**9, (1,), (1,)),
        (0, (2, 2), (1,)),
        (0, ("a",), (1,)),
        (0, (2.5,), (1,)),
        (None, (2,), (1,)),
        (0, (0, 10**30), (10**30, 1)),
        (0, (1,) * 70, (1,) * 70),
    ],
)
def test_values_outside_a_storage_are_not_read(rebuilt, tmp_path):
    with pytest.raises(ValueError, match=r"."):
        read_torch_file(write(tmp_path / "x.pth", *rebuilt))


@pytest.mark.parametrize(
    "damage",
    ["short", "no values", "odd values", "big", "empty", "two", "compressed"],
)
def test_damaged_file_is_refused(damage, tmp_path):
    path = saved({"x": WIDE}, tmp_path / "x.pth")
    if damage == "short":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
        values = next(name for name in parts if name.endswith("/data/0"))
        if damage == "no values":
            del parts[values]
        elif damage == "odd values":
            parts[values] = parts[values][:-1]
        elif damage == "big":
            parts[next(name for name in parts if name.endswith("/byteorder"))] = b"big"
        elif damage == "two":
            parts["other/data.pkl"] = b""
        kind = zipfile.ZIP_DEFLATED if damage == "compressed" else zipfile.ZIP_STORED
        with zipfile.ZipFile(path, "w", kind) as archive:
            for name, content in parts.items():
                archive.writestr(name, content)
    with pytest.raises(ValueError, match=r"."):
        read_torch_file(path)

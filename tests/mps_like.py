"""A device that stands in for the GPU of a Mac, on any machine.

Its tensors say that they are on "mps" and hold a CPU tensor, which computes. What that GPU lacks is
an error: float64, tensors of the CPU among its own, copies that are read before they are complete,
convolutions with channels last, and operations that it or its older systems do not have.
"""

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

CPU, MPS = torch.device("cpu"), torch.device("mps")
REFUSED = (
    "aten._fused_sgd_",  # wants the same layout of all tensors
    "aten._pin_memory",
    "aten.record_stream",
    "aten.bernoulli_",  # of bool
    "aten.addmm.out",  # into a part of a tensor
    "aten.mm.out",
    "aten.addcmul.out",
)


class MpsLikeTensor(Tensor):
    """A tensor on the device.

    Attributes:
        held: the tensor of the CPU that has its values.
    """

    device = property(lambda self: MPS)

    @staticmethod
    def __new__(cls, held: Tensor):
        if held.dtype == torch.float64:
            raise TypeError("MPS has no float64")
        with torch.inference_mode(False):
            tensor = Tensor._make_wrapper_subclass(
                cls,
                held.shape,
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
            )
        tensor.held = held
        return tensor

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation, types, arguments=(), keywords=None):
        return compute(operation, arguments, keywords or {})


class Copies(TorchFunctionMode):
    """Copies from and to the device."""

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        keywords = keywords or {}
        if function is not Tensor.to and function is not Tensor.cpu:
            return function(*arguments, **keywords)
        tensor, *others = arguments
        devices = [torch.device("cpu")] if function is Tensor.cpu else []
        for value in (*others, *keywords.values()):
            if isinstance(value, (str, torch.device)):
                devices.append(torch.device(value))
        if not devices or (isinstance(tensor, MpsLikeTensor) == (devices[0] == MPS)):
            return function(*arguments, **keywords)
        if devices[0] == MPS:
            return MpsLikeTensor(tensor.detach().clone())
        if keywords.get("non_blocking"):
            raise RuntimeError("a copy to the CPU may be read before it is complete")
        return tensor.detach().held.clone()


class MpsLike(TorchDispatchMode):
    """Within this mode "mps" is a device.

    Attributes:
        operations: the names of all that ran on it.
    """

    def __init__(self):
        super().__init__()
        self.operations: set[str] = set()
        self._copies = Copies()

    def __enter__(self):
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        self._copies.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._copies.__exit__(*error)
        torch.__future__.set_overwrite_module_params_on_conversion(False)

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        keywords = keywords or {}
        is_here = any(isinstance(t, MpsLikeTensor) for t in tensors_of((arguments, keywords)))
        if not is_here and keywords.get("device") != MPS:
            return operation(*arguments, **keywords)
        self.operations.add(str(operation))
        return compute(operation, arguments, keywords)


def tensors_of(values) -> list[Tensor]:
    """Return all tensors in nested arguments."""
    found: list[Tensor] = []
    tree_map(lambda value: found.append(value) if isinstance(value, Tensor) else None, values)
    return found


def compute(operation, arguments, keywords):
    """Run an operation on what the tensors hold; its results are on the device, too."""
    name = str(operation)
    if name.startswith(REFUSED):
        raise NotImplementedError(f"{name} is not implemented for MPS")
    found = tensors_of((arguments, keywords))
    is_copy = name.startswith("aten.copy_")
    if not is_copy and any(not isinstance(t, MpsLikeTensor) and t.dim() for t in found):
        raise RuntimeError(f"{name}: one tensor is on mps, another one on cpu")
    if name.startswith(("aten.conv2d", "aten.convolution")) and any(
        is_channels_last(t) for t in found
    ):
        raise RuntimeError(f"{name}: channels last")
    if keywords.get("device") is not None:
        keywords = keywords | {"device": CPU}
    held = tree_map(lambda v: v.held if isinstance(v, MpsLikeTensor) else v, (arguments, keywords))
    result = operation(*held[0], **held[1])
    if is_copy and not isinstance(arguments[0], MpsLikeTensor):
        return arguments[0]
    known = {id(t.held): t for t in found if isinstance(t, MpsLikeTensor)}

    def on_device(value):
        if not isinstance(value, Tensor):
            return value
        return known[id(value)] if id(value) in known else MpsLikeTensor(value)

    return tree_map(on_device, result)


def is_channels_last(tensor: Tensor) -> bool:
    """Return whether a batch of images is in memory channel by channel of each pixel."""
    is_last = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return is_last and not tensor.is_contiguous()

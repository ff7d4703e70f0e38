"""Caffe's files, written here by the protobuf library from our own description of caffe.proto."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from helpers import refused
from onnx import TensorProto, numpy_helper

from alexnet_cli.errors import CheckpointError
from alexnet_cli.model.checkpoint import load_checkpoint
from alexnet_cli.pretrained.importer import ImportRequest, import_weights

NAMES = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
MEAN_BGR = np.array([104.00698793, 116.66876762, 122.67891434], np.float32)
BVLC = (
    "data conv1 relu1 norm1 pool1 conv2 relu2 norm2 pool2 conv3 relu3 conv4 relu4 conv5 relu5 "
    "pool5 fc6 relu6 drop6 fc7 relu7 drop7 fc8 loss"
)
CAFFENET = BVLC.replace("norm1 pool1", "pool1 norm1").replace("norm2 pool2", "pool2 norm2")
# By the letters a layer's name begins with: type of LayerParameter, and of V1LayerParameter.
TYPES = {
    "data": ("Data", 5),
    "conv": ("Convolution", 4),
    "relu": ("ReLU", 18),
    "norm": ("LRN", 15),
    "pool": ("Pooling", 17),
    "fc": ("InnerProduct", 14),
    "drop": ("Dropout", 6),
    "loss": ("SoftmaxWithLoss", 21),
}
KINDS = {"int": 3, "float": 2, "text": 9, "enum": 5, "message": 11}


def messages() -> dict:
    """Return the classes of caffe.proto's messages, as far as they matter here."""
    blob = [
        ("num", 1, "int"),
        ("channels", 2, "int"),
        ("height", 3, "int"),
        ("width", 4, "int"),
        ("data", 5, "float*"),
        ("shape", 7, "BlobShape"),
    ]
    lrn = [("local_size", 1, "int"), ("alpha", 2, "float"), ("beta", 3, "float"), ("k", 5, "float")]
    content = {
        "BlobShape": [("dim", 1, "int*")],
        "BlobProto": blob,
        "LRN": lrn,
        "Layer": [
            ("name", 1, "text"),
            ("type", 2, "text"),
            ("blobs", 7, "BlobProto*"),
            ("lrn", 118, "LRN"),
        ],
        "V1Layer": [
            ("name", 4, "text"),
            ("type", 5, "int"),
            ("blobs", 6, "BlobProto*"),
            ("lrn", 18, "LRN"),
        ],
        "Net": [("name", 1, "text"), ("layers", 2, "V1Layer*"), ("layer", 100, "Layer*")],
    }
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for name, fields in content.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            base, many = kind.rstrip("*"), kind.endswith("*")
            added = message.field.add(name=field, number=number, label=3 if many else 1)
            added.type = KINDS.get(base, KINDS["message"])
            if base not in KINDS:
                added.type_name = f".caffe.{base}"
            elif many:
                added.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}"))
        for name in content
    }


PROTO = messages()


def caffemodel(weights: dict, order: str = BVLC, *, old: bool = False, **lrn: float) -> bytes:
    """Return a NetParameter in the new layout, or in that of before 2014."""
    net = PROTO["Net"](name="AlexNet")
    for name in order.split():
        new, number = TYPES[name.rstrip("0123456789")]
        layer = (net.layers if old else net.layer).add(name=name, type=number if old else new)
        if name.startswith("norm"):
            constants = {"local_size": 5, "alpha": 1e-4, "beta": 0.75} | lrn
            layer.lrn.MergeFrom(PROTO["LRN"](**constants))
        for kind in ("weight", "bias"):
            if (tensor := weights.get(f"{name}.{kind}")) is not None:
                fill(layer.blobs.add(), tensor, old=old)
    return net.SerializeToString()


def fill(blob, tensor: np.ndarray, *, old: bool) -> None:
    blob.data.extend(tensor.ravel().tolist())
    if old:
        sides = (1, 1, 1, 1, *tensor.shape)[-4:]
        blob.num, blob.channels, blob.height, blob.width = sides
    else:
        blob.shape.dim.extend(tensor.shape)


def run_caffe(weights: dict, images: np.ndarray, mean=MEAN_BGR, *, pool_first=False) -> np.ndarray:
    """Return the probabilities of the center crop as Caffe computes them: BGR, 227 pixels."""
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    pixels = images[..., ::-1].astype(np.float32) - mean
    x = torch.from_numpy(pixels[:, 14:241, 14:241].transpose(0, 3, 1, 2).copy())

    def conv(x, name, **options):
        return F.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], **options).relu()

    def pool(x):
        return F.max_pool2d(x, 3, 2, ceil_mode=True)

    def norm(x):
        return F.local_response_norm(x, 5, 1e-4, 0.75, 1.0)

    for name, options in (("conv1", {"stride": 4}), ("conv2", {"padding": 2, "groups": 2})):
        x = conv(x, name, **options)
        x = norm(pool(x)) if pool_first else pool(norm(x))
    x = conv(x, "conv3", padding=1)
    x = conv(x, "conv4", padding=1, groups=2)
    x = pool(conv(x, "conv5", padding=1, groups=2)).flatten(1)
    for name in ("fc6", "fc7", "fc8"):
        x = F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])
        x = x if name == "fc8" else x.relu()
    return x.softmax(dim=1).numpy()


@pytest.fixture
def imported(tmp_path):
    """Import the content of a file of this name, and return the checkpoint's path."""

    def call(content: bytes, name: str = "net.caffemodel", **options) -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        output = tmp_path / "net.safetensors"
        import_weights(ImportRequest(str(path), output, force=True, **options))
        return output

    return call


def center_probabilities(classifier, images: np.ndarray) -> np.ndarray:
    return classifier.probabilities(images, classifier.views(1))[0]


@pytest.mark.parametrize("old", [False, True])
def test_caffemodel_gives_caffes_probabilities(
    caffe_weights, imported, classifier_of, uint8_images, old
):
    classifier = classifier_of(imported(caffemodel(caffe_weights, old=old)))
    images = uint8_images(8)
    expected = run_caffe(caffe_weights, images)
    assert expected.std(axis=0).max() > 1e-3
    np.testing.assert_allclose(center_probabilities(classifier, images), expected, atol=1e-6)


def test_caffenet_is_known_by_the_order_of_its_layers(
    caffe_weights, imported, classifier_of, uint8_images
):
    path = imported(caffemodel(caffe_weights, CAFFENET))
    assert load_checkpoint(path).recipe.name == "caffenet"
    images = uint8_images(4)
    expected = run_caffe(caffe_weights, images, pool_first=True)
    np.testing.assert_allclose(
        center_probabilities(classifier_of(path), images), expected, atol=1e-6
    )


def test_mean_image_takes_the_place_of_the_mean_color(
    caffe_weights, imported, classifier_of, uint8_images, tmp_path
):
    mean = np.random.default_rng(1).uniform(80, 150, (3, 256, 256)).astype(np.float32)
    blob = PROTO["BlobProto"]()
    fill(blob, mean, old=True)
    (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
    path = imported(caffemodel(caffe_weights), mean=tmp_path / "mean.binaryproto")
    images = uint8_images(4)
    expected = run_caffe(caffe_weights, images, mean.transpose(1, 2, 0))
    np.testing.assert_allclose(
        center_probabilities(classifier_of(path), images), expected, atol=1e-6
    )


def test_mean_image_of_another_size_is_refused(caffe_weights, imported, tmp_path):
    blob = PROTO["BlobProto"]()
    fill(blob, np.zeros((3, 8, 8), np.float32), old=True)
    path = tmp_path / "mean.binaryproto"
    for content, pattern in (
        (blob.SerializeToString(), r"it is \(1, 3, 8, 8\)"),
        (b"\x0b", "its fields"),
    ):
        path.write_bytes(content)
        with refused(CheckpointError, pattern):
            imported(caffemodel(caffe_weights), mean=path)


# --- the ONNX model zoo's layout, from the light model that onnx itself is tested with


@pytest.fixture
def zoo_model(caffe_weights) -> onnx.ModelProto:
    """The zoo's graph with our weights, on crops of 227 pixels."""
    folder = Path(onnx.__file__).parent / "backend/test/data/light"
    model = onnx.load(folder / "light_bvlc_alexnet.onnx")
    graph = model.graph
    nodes = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    kept = [entry for entry in graph.initializer if not entry.name.endswith("__SHAPE")]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    for name in NAMES:
        for kind, letter in (("weight", "w"), ("bias", "b")):
            tensor = numpy_helper.from_array(caffe_weights[f"{name}.{kind}"], f"{name}_{letter}_0")
            graph.initializer.append(tensor)
    inputs = [entry for entry in graph.input if entry.name == "data_0"]
    del graph.input[:], graph.value_info[:]
    graph.input.extend(inputs)
    for place in (2, 3):
        graph.input[0].type.tensor_type.shape.dim[place].dim_value = 227
    for constant in graph.initializer:
        if constant.name == "OC2_DUMMY_1":
            constant.CopyFrom(numpy_helper.from_array(np.array([1, -1]), constant.name))
    return model


def test_zoo_file_gives_the_probabilities_of_onnxruntime(
    zoo_model, imported, classifier_of, uint8_images
):
    content = zoo_model.SerializeToString()
    classifier = classifier_of(imported(content, "bvlcalexnet-12.onnx"))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    images = uint8_images(4)
    pixels = images[:, 14:241, 14:241, ::-1].astype(np.float32) - MEAN_BGR
    crops = pixels.transpose(0, 3, 1, 2)
    expected = np.concatenate([session.run(None, {"data_0": crop[None]})[0] for crop in crops])
    np.testing.assert_allclose(center_probabilities(classifier, images), expected, atol=1e-6)


def test_zoo_file_and_caffemodel_become_the_same_weights(zoo_model, caffe_weights, imported):
    from_zoo = load_checkpoint(imported(zoo_model.SerializeToString(), "net.onnx"))
    from_caffe = load_checkpoint(imported(caffemodel(caffe_weights)))
    assert from_zoo.weights_hash() == from_caffe.weights_hash()


@pytest.mark.parametrize("name", ["light_bvlc_alexnet", "light_zfnet512", "light_squeezenet"])
def test_model_without_weights_or_of_another_network_is_refused(name, imported):
    folder = Path(onnx.__file__).parent / "backend/test/data/light"
    content = (folder / f"{name}.onnx").read_bytes()
    with refused(CheckpointError, "is not in the file|do not follow each other"):
        imported(content, "net.onnx")


def test_onnx_weights_outside_the_file_are_not_read(zoo_model, imported):
    (tensor,) = (entry for entry in zoo_model.graph.initializer if entry.name == "fc8_b_0")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    with refused(CheckpointError, "fc8_b_0 is not float32 inside the file"):
        imported(zoo_model.SerializeToString(), "net.onnx")


# --- other and damaged files


def test_other_constants_of_the_normalization_are_refused(caffe_weights, imported):
    with refused(CheckpointError, "its LRN has alpha 0.0005, not 0.0001"):
        imported(caffemodel(caffe_weights, alpha=5e-4))
    with refused(CheckpointError, "its LRN has k 2, not 1"):
        imported(caffemodel(caffe_weights, k=2.0))


def test_other_network_of_caffe_is_refused(caffe_weights, imported):
    with refused(CheckpointError, "do not follow each other as in bvlc_alexnet"):
        imported(caffemodel(caffe_weights, BVLC.replace(" norm1", "")))
    swapped = caffe_weights | {"conv2.weight": caffe_weights["conv2.weight"].repeat(2, axis=1)}
    with refused(CheckpointError, r"conv2.weight is \(16, 8, 5, 5\), not \(16, 4, 5, 5\)"):
        imported(caffemodel(swapped))
    without = {k: t for k, t in caffe_weights.items() if k != "fc7.bias"}
    with refused(CheckpointError, "fc7 has 1 tensors, not 2"):
        imported(caffemodel(without))


def test_damaged_caffemodels_are_refused(caffe_weights, imported):
    whole = caffemodel(caffe_weights)
    rng = np.random.default_rng(8)
    cuts = [whole[: int(cut)] for cut in rng.integers(1, len(whole), 12)]
    bits = [bytes(rng.integers(0, 256, 400, dtype=np.uint8)) for _ in range(40)]
    for content in [*cuts, *bits, b"", b"\x08\x01" * 200_000]:
        with refused(CheckpointError, "not the weights of an AlexNet of torchvision or Caffe"):
            imported(content)

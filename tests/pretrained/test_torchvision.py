import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from helpers import refused
from narrow import Narrow
from torch import nn
from torchvision.transforms import functional as transforms

from alexnet_cli.data.views import views_of
from alexnet_cli.distributed.device_plan import Runtime
from alexnet_cli.errors import CheckpointError, InputError, UsageError
from alexnet_cli.inference.classifier import build_classifier
from alexnet_cli.inference.export import export
from alexnet_cli.model.checkpoint import load_checkpoint
from alexnet_cli.pretrained import torchvision as module
from alexnet_cli.pretrained.importer import ImportRequest, import_weights, read_weights

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Positions of our ten views among torchvision's.
ORDER = (0, 1, 4, 2, 3, 6, 5, 9, 8, 7)


@pytest.fixture
def narrow() -> nn.Module:
    torch.manual_seed(4)
    return Narrow().eval()


@pytest.fixture(params=["with torch", "without torch"])
def reader(request, monkeypatch) -> None:
    """Read .pth files with torch, or as where it is not installed."""
    if request.param == "without torch":
        monkeypatch.setattr(module, "has_package", lambda name: False)


def imported(state, folder: Path, **options) -> Path:
    torch.save(state, folder / "net.pth")
    output = folder / "net.safetensors"
    import_weights(ImportRequest(str(folder / "net.pth"), output, **options))
    return output


@torch.no_grad()
def logits_of(classifier, images: np.ndarray, num_views: int) -> torch.Tensor:
    """Return our logits (V, N, K)."""
    classifier.net.eval()
    views = views_of(num_views, 256, 224)
    batch = torch.from_numpy(images)
    return torch.stack([classifier.net(classifier.augmenter.view(batch, v)) for v in views])


@torch.no_grad()
def theirs(net: nn.Module, images: np.ndarray, num_views: int) -> torch.Tensor:
    """Return torchvision's logits (V, N, K), by its own transforms."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    pixels = transforms.normalize(pixels, MEAN, STD)
    if num_views == 1:
        return net(transforms.center_crop(pixels, [224, 224]))[None]
    crops = transforms.ten_crop(pixels, [224, 224])
    return torch.stack([net(crops[place]) for place in ORDER])


def test_logits_of_the_whole_network_are_those_of_torchvision(tmp_path, uint8_images):
    torch.manual_seed(2)
    net = torchvision.models.alexnet().eval()
    path = tmp_path / "alexnet.pth"
    torch.save(net.state_dict(), path)
    classifier = build_classifier(read_weights(path), Runtime((torch.device("cpu"),)), path)
    images = uint8_images(32)
    expected = theirs(net, images, 1)
    assert expected.std(dim=1).mean() > 1e-3  # images differ
    torch.testing.assert_close(logits_of(classifier, images, 1), expected, rtol=0, atol=1e-5)


def test_logits_of_ten_crops_are_those_of_torchvision(
    narrow, tmp_path, classifier_of, uint8_images
):
    classifier = classifier_of(imported(narrow.state_dict(), tmp_path))
    images = uint8_images(32)
    expected = theirs(narrow, images, 10)
    torch.testing.assert_close(logits_of(classifier, images, 10), expected, rtol=0, atol=1e-5)


def test_checkpoint_says_where_it_comes_from_and_has_imagenets_classes(narrow, tmp_path):
    found = load_checkpoint(imported(narrow.state_dict(), tmp_path))
    assert found.recipe.name == "owt"
    assert found.classes[65] == ("n01751748", "sea snake")
    assert found.init_from["file"] == "net.pth"
    assert len(found.init_from["sha256"]) == 64
    assert found.pixels["mean_image"][0, 0] == pytest.approx([255 * m for m in MEAN])


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module.net."])
@pytest.mark.parametrize("keys", [["state_dict"], ["model", "state_dict"], ["model_state_dict"]])
def test_state_of_a_training_script_is_unwrapped(narrow, reader, tmp_path, prefix, keys):
    expected = load_checkpoint(imported(narrow.state_dict(), tmp_path))
    state = {f"{prefix}{name}": tensor for name, tensor in narrow.state_dict().items()}
    for key in reversed(keys):
        state = {key: state, "epoch": 3, "best": torch.ones(2)}
    found = load_checkpoint(imported(state, tmp_path, force=True))
    assert found.weights_hash() == expected.weights_hash()


def test_network_of_other_classes_needs_their_names(tmp_path):
    state = Narrow(num_classes=3).state_dict()
    with refused(UsageError, "made for 3 classes, ImageNet has 1,000.*\n.*--classes FILE"):
        imported(state, tmp_path)
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\nemu\n")
    found = load_checkpoint(imported(state, tmp_path, classes=names))
    assert found.classes == [("cat", "cat"), ("dog", "dog"), ("emu", "emu")]


def test_imported_network_exports_to_onnx(narrow, tmp_path, monkeypatch):
    monkeypatch.setattr("alexnet_cli.inference.export.CHECKED_VIEWS", 36)
    checkpoint = imported(narrow.state_dict(), tmp_path)
    for views in (1, 10):
        result = export(checkpoint, tmp_path / f"{views}.onnx", num_views=views)
        assert result.max_abs_difference < 1e-5


def test_existing_checkpoint_is_kept_without_force(narrow, tmp_path):
    path = imported(narrow.state_dict(), tmp_path)
    before = path.read_bytes()
    with refused(InputError, "exists.\nIt is left as it is.\nAdd --force"):
        imported(narrow.state_dict(), tmp_path)
    assert path.read_bytes() == before


# --- other files


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_weights_are_the_same_without_torch(narrow, tmp_path, monkeypatch, dtype, is_new):
    path, read = tmp_path / "net.pth", []
    state = narrow.to(dtype).state_dict()
    torch.save(state, path, _use_new_zipfile_serialization=is_new)
    for has_torch in (True, False):
        monkeypatch.setattr(module, "has_package", lambda name, here=has_torch: here)
        output = tmp_path / f"{has_torch}.safetensors"
        import_weights(ImportRequest(str(path), output))
        read.append(output.read_bytes())
    assert read[0] == read[1]


def test_tensors_that_share_values_do_not_fill_the_memory(reader, tmp_path, monkeypatch):
    state = {name: torch.zeros(1, dtype=torch.uint8).expand(1000) for name in "abcdefgh"}
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 30_000)
    with refused(CheckpointError, "its tensors take more than a gigabyte"):
        imported(state, tmp_path)


class Harmful:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_a_file_is_not_run(reader, tmp_path):
    mark = tmp_path / "ran"
    for content in (Harmful(mark), {"features.0.weight": Harmful(mark)}):
        with refused(CheckpointError, "holds code besides tensors"):
            imported(content, tmp_path)
        (tmp_path / "net.pth").write_bytes(pickle.dumps(content))
        with refused(CheckpointError, "holds code besides tensors"):
            import_weights(ImportRequest(str(tmp_path / "net.pth"), tmp_path / "out"))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"features.0.weight": None}, "there is no features.0.weight"),
        ({"layer1.0.bn1.weight": torch.ones(3)}, "it also has layer1.0.bn1.weight"),
        ({"features.3.weight": torch.ones(24, 8, 3, 3)}, r"conv2.weight is \(24, 8, 3, 3\), not"),
        ({"classifier.4.bias": torch.ones(7)}, r"fc7.bias is \(7,\), not \(32,\)"),
        ({"features.0.weight": torch.ones(())}, "tuple index out of range"),
    ],
)
def test_other_network_is_refused(narrow, reader, tmp_path, change, pattern):
    state = {k: t for k, t in (narrow.state_dict() | change).items() if t is not None}
    with refused(CheckpointError, f"not the weights of an AlexNet.*{pattern}"):
        imported(state, tmp_path)


def test_damaged_file_is_refused(narrow, reader, tmp_path):
    whole = io.BytesIO()
    torch.save(narrow.state_dict(), whole)
    path = tmp_path / "net.pth"
    listing = whole.getvalue().replace(b"PK\x01\x02", b"PK\x01\x00")
    for content in (whole.getvalue()[:-2000], b"", b"PK\x03\x04", b"<html>", listing):
        path.write_bytes(content)
        with refused(CheckpointError, "not the weights of an AlexNet of torchvision or Caffe"):
            import_weights(ImportRequest(str(path), tmp_path / "out"))


def test_file_that_unpacks_to_too_much_is_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "net.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", bytes(5000))
    monkeypatch.setattr("alexnet_cli.pretrained.torchvision.MAX_FILE_BYTES", 4000)
    with refused(CheckpointError, "unpacks to more than a gigabyte"):
        import_weights(ImportRequest(str(path), tmp_path / "out"))
    monkeypatch.setattr("alexnet_cli.pretrained.importer.MAX_FILE_BYTES", 10)
    with refused(CheckpointError, "more than any of these networks has"):
        import_weights(ImportRequest(str(path), tmp_path / "out"))


def test_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "net.h5"
    path.write_bytes(b"content")
    with refused(CheckpointError, "not a file of weights.*\nThey end in .pth, "):
        import_weights(ImportRequest(str(path), tmp_path / "out"))
    with refused(UsageError, "no such file.\n.*torchvision, bvlc"):
        import_weights(ImportRequest("resnet", tmp_path / "out"))

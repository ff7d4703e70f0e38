"""Small public data sets by name; each is one archive that prep reads."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from alexnet_cli.data.remote.published import PublishedFile, fetch_published
from alexnet_cli.errors import UsageError
from alexnet_cli.io.atomic import check_new, write_atomically
from alexnet_cli.io.progress import SILENT, Progress

# Hashes as their publishers, or the libraries that fetch them, give them: fastai's and
# torchvision's MD5, and TensorFlow Datasets' SHA-256 of CIFAR-10, whose page has the MD5.
DATASETS: dict[str, PublishedFile] = {
    "imagenette-160": PublishedFile(
        "imagenette2-160.tgz",
        "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz",
        None,
        "md5",
        "e793b78cc4c9e9a4ccc0c1155377a412",
    ),
    "tiny-imagenet": PublishedFile(
        "tiny-imagenet-200.zip",
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        248_100_043,
        "md5",
        "90528d7ca1a48142e341f4ef8d21d0de",
    ),
    "cifar-10": PublishedFile(
        "cifar-10-binary.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        170_052_171,
        "sha256",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    ),
}


@dataclass(frozen=True, slots=True)
class DownloadResult:
    """A data set that was fetched, now or before.

    Attributes:
        digest: the hash that was compared, named by `algorithm`.
    """

    name: str
    file: str
    url: str
    bytes: int
    algorithm: str
    digest: str


def download(
    name: str, output: Path | None = None, *, force: bool = False, progress: Progress = SILENT
) -> DownloadResult:
    """Fetch the archive of a data set into the cache, and copy it to `output` if that is named.

    Raises:
        UsageError: if there is no data set of that name.
        InputError: if the output exists and `force` is not set.
        AlexNetError: as `fetch_published`.
    """
    if name not in DATASETS:
        raise UsageError(f"no data set {name!r}.", hint=f"Data sets: {', '.join(DATASETS)}.")
    published = DATASETS[name]
    if output and output.is_dir():
        output = output / published.name
    if output:
        check_new(output, force=force)
    path = fetch_published(published, progress)
    if output:
        with path.open("rb") as source, write_atomically(output) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        path = output
    return DownloadResult(
        name,
        str(path),
        published.url,
        path.stat().st_size,
        published.algorithm,
        published.digest,
    )

# %% [markdown]
# # Deploy
#
# A trained network becomes one ONNX file that holds everything: cropping, the mean image, the
# weights, the names of the classes. Whoever runs it needs neither torch nor this package.

# %%
import csv
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from PIL import Image

from alexnet_cli import load_model
from alexnet_cli.inference.export import export

CHECKPOINT = Path("runs/paper/best.safetensors")
ONNX = Path("deployed.onnx")

written = export(CHECKPOINT, ONNX, force=True)
print(f"{written.bytes / 1e6:.1f} MB, probabilities within {written.max_abs_difference:.0e}")

# %% [markdown]
# ## With this package, which does not import torch for it
#
# Results come while the images are read, in memory that does not grow with their number.

# %%
model = load_model(ONNX)
paths = sorted(Path("photos").glob("*/*.*"))
began = time.perf_counter()
with Path("labels.csv").open("w", newline="") as file:
    rows = csv.writer(file)
    for result in model.predict_each((str(path), path) for path in paths):
        rows.writerow((result.image, result.name, f"{result.probability:.4f}"))
print(f"{len(paths) / (time.perf_counter() - began):.0f} images/s")

# %% [markdown]
# ## With onnxruntime alone
#
# The input is a batch of square RGB images, one byte for each value. Resizing is the only step
# that is left to the program; here it cuts the middle square, as `prep` does.

# %%
session = onnxruntime.InferenceSession(ONNX, providers=["CPUExecutionProvider"])
stored = {entry.key: entry.value for entry in onnx.load(ONNX).metadata_props}
side = model.info.image_size


def square(path: Path) -> np.ndarray:
    image = Image.open(path).convert("RGB")
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    cut = image.crop((left, top, left + edge, top + edge))
    return np.asarray(cut.resize((side, side), Image.BICUBIC))


batch = np.stack([square(path) for path in paths[:4]])  # uint8 (4, side, side, 3)
(probabilities,) = session.run(None, {"images": batch})
for path, row in zip(paths, probabilities, strict=False):
    print(path, model.classes[int(row.argmax())].name, f"{row.max():.1%}")
print("also in the file:", ", ".join(stored))

# %% [markdown]
# Both agree on what they see:

# %%
again = model.probabilities(batch)
print("largest difference:", float(np.abs(again - probabilities).max()))

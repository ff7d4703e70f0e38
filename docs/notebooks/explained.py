# %% [markdown]
# # The network explained
#
# What a trained AlexNet is made of, and what it does with one image. Any checkpoint will do:
# one that you trained, or "torchvision", whose weights are fetched on first use.

# %%
from pathlib import Path

import numpy as np
from PIL import Image

from alexnet_cli import load_model

MODEL = "runs/paper"
IMAGE = "photos/cat/0.png"

model = load_model(MODEL, views=1)
print(model)

# %% [markdown]
# ## From pixels to classes
#
# Five convolutional layers make smaller and smaller maps of more and more kinds of things,
# three fully connected ones weigh them. Nearly all parameters are in these three, most of the
# work is in the convolutions.

# %%
for name in model.layers:
    layer = model.layer(name)
    count = sum(values.size for values in layer.parameters.values())
    print(f"{name:8} {layer.kind:12} {' x '.join(map(str, layer.output)):>14} {count:>12,}")

# %% [markdown]
# ## What the first layer looks for
#
# The kernels of conv1 work on pixels, so they can be seen: edges of many directions, and blobs
# of color.

# %%
kernels = model.layer("conv1").weight  # (kernels, 3, rows, columns)
scaled = (kernels - kernels.min()) / np.ptp(kernels)
rows = [np.hstack(scaled[start : start + 3].transpose(0, 2, 3, 1)) for start in (0, 3)]
Image.fromarray((255 * np.vstack(rows)).astype(np.uint8)).resize((330, 220), Image.NEAREST)

# %% [markdown]
# ## What it says about an image

# %%
(result,) = model.predict(IMAGE, top=5)
for prediction in result.top:
    print(f"{prediction.probability:6.1%} {prediction.name}")

# %% [markdown]
# ## What it takes for similar
#
# The 4,096 numbers before the classes describe an image. Those of similar images point the same
# way: this is how section 6.1 of the paper finds neighbors.

# %%
paths = [str(path) for path in sorted(Path("photos").glob("*/*.*"))]
features = model.features(paths)
directions = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
nearest = np.argsort(-directions @ directions[paths.index(IMAGE)], kind="stable")
print("most similar to", IMAGE, "is", paths[nearest[1]])

# %% [markdown]
# # Fine-tune on your photos
#
# A few hundred photos are too few to train a network, but enough to teach one that has learned
# to see something new. They lie in one folder for each class: `photos/cat`, `photos/dog`.

# %%
from pathlib import Path

from alexnet_cli import DatasetRef, TrainRequest, load_model, train
from alexnet_cli.data.pca import pca
from alexnet_cli.prep.build import prep
from alexnet_cli.prep.plan import PrepOptions, PrepRequest
from alexnet_cli.recipes.overrides import with_settings
from alexnet_cli.recipes.small import finetune_of

PHOTOS = Path("photos")
MODEL = "runs/paper"  # or "torchvision": weights of ImageNet, fetched on first use
DATASET, RUN = Path("shards/my-photos"), Path("runs/my-photos")

# %% [markdown]
# ## Photos become a dataset
#
# Every fifth photo of a class is kept for validation. The colors of the others are measured
# once.

# %%
options = PrepOptions(val_fraction=0.2)
found = prep(PrepRequest(PHOTOS, DATASET, options))
print(found.classes, "classes:", {name: split["written"] for name, split in found.splits.items()})

dataset = DatasetRef.parse(str(DATASET))
print("mean color:", pca(dataset).mean_rgb)

# %% [markdown]
# ## Train the last layers
#
# The recipe `finetune` takes over the network, keeps what it knows and learns slowly. It ends
# by itself when the validation error stops falling. The kernels of the convolutions stay as
# they are.

# %%
base = load_model(MODEL)
recipe = with_settings(
    finetune_of(base.info.recipe),
    ["epochs=10", "bs=16", "frozen=conv1,conv2,conv3,conv4,conv5"],
)
outcome = train(TrainRequest(dataset, RUN, recipe, init_from=base.info.path))
print(f"epoch {outcome.best['epoch']}: {outcome.best['top1_error']:.1%} of the others are wrong")

# %% [markdown]
# ## Use it

# %%
model = load_model(RUN)
for result in model.predict(PHOTOS)[:3]:
    print(result.image, result.name, f"{result.probability:.0%}")

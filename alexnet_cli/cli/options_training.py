"""The options of `alexnet train`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Run = Annotated[Path, typer.Option(help="Folder of the run, for example runs/paper.")]
RecipeName = Annotated[str | None, typer.Option(help="By default paper; see alexnet recipes.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Same as --set epochs=N.")]
InitFrom = Annotated[Path | None, typer.Option(help="Checkpoint whose layers the run begins with.")]
Replicated = Annotated[
    int | None,
    typer.Option("--gpus", min=1, help="2 hold a column each; 4 two replicas of that, and so on."),
]
Columns = Annotated[
    int | None, typer.Option(min=1, max=2, help="1: every GPU a replica of the whole network.")
]
Precision = Annotated[
    Literal["fp32", "tf32", "bf16"],
    typer.Option(help="Arithmetic of the forward and backward passes; weights stay fp32."),
]
Compiled = Annotated[bool, typer.Option("--compile", help="Let torch.compile make the kernels.")]
Cache = Annotated[
    Literal["raw"] | None,
    typer.Option(help="raw: decode all images once into a file, 197 kB per image, and read that."),
]
SaveMinutes = Annotated[
    float, typer.Option(min=0, help="Between checkpoints within an epoch; 0 for none.")
]
SaveSteps = Annotated[int, typer.Option(min=0, help="The same in updates.")]
Tensorboard = Annotated[
    bool, typer.Option("--tensorboard", help="Also draw curves: RUN/tensorboard.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")]
AllowDataChange = Annotated[
    bool, typer.Option("--allow-data-change", help="With --resume: go on with other images.")
]

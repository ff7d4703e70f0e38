"""What to do next, with the options to type. Packages below name a hint: `errors.hint`."""

from alexnet_cli.errors import AlexNetError, Hint

HINTS: dict[str, str] = {
    "less_memory": "Close other programs, or use fewer --workers.",
    # data and prep
    "fewer_workers": "Run the same command to continue, with fewer --workers.",
    "force_room": "Make room, or begin although the disk looks too small: --force",
    "leave_out": "Leave out --{option}.",
    "name_layout": "Name the folder that holds the images, and its layout: --layout {layouts}",
    "rebuild": "Rebuild the indexes: alexnet verify {dataset} --rebuild",
    "repair": "Rebuild what is damaged: alexnet verify {dataset} --repair SOURCE",
    "val_fraction": "Choose a --val-fraction of at least 0 and below 1.",
    "raise_limit": "Raise the limit, or use fewer --workers, and run the same command again.",
    # model, recipes and onnx
    # training, inference, distributed and bench
    # reproduce
    "dataset_of_table": "Name a dataset with --data {name}=DATASET, or see the plan: --dry-run",
    "validation_split": "Prepare it again with --val-fraction 0.1, or with val/ beside train/.",
}


def message(error: AlexNetError) -> str:
    """Return the lines of an error: its problem, what is kept, what to do next."""
    hint = error.hint
    if isinstance(hint, Hint):
        hint = HINTS[hint.name].format(**hint.values)
    return "\n".join(part for part in (error.problem, error.kept, hint) if part)

"""What to do next, with the options to type. Packages below name a hint: `errors.hint`."""

from alexnet_cli.errors import AlexNetError, Hint

HINTS: dict[str, str] = {
    "less_memory": "Close other programs, or use fewer --workers.",
    # data and prep
    "allow_pipe": "To run it in a shell: --allow-pipe",
    "pca_of_tars": "Make it: alexnet pca --stream {tars!r}",
    "prep_larger": "Make larger ones: alexnet prep SOURCE DATASET --size {size}",
    "raw_cache_of_tars": "Make a dataset: alexnet prep {tars!r} DATASET; or leave out --cache.",
    "raw_cache_room": "Make room, name another folder: ALEXNET_CACHE=FOLDER, or leave out --cache.",
    "rebuild_samples": "Make it again from the shards: alexnet verify {folder} --rebuild",
    "repair_dataset": "Rebuild what is damaged: alexnet verify {folder} --repair SOURCE",
    "restore_index": "Put its copy back: alexnet verify {folder} --rebuild",
    "stream_tars": "Read them as they are: --stream. Make a dataset: alexnet prep FOLDER DATASET",
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

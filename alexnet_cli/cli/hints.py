"""What to do next, with the options to type. Packages below name a hint: `errors.hint`."""

from alexnet_cli.errors import AlexNetError, Hint, on_one_line

HINTS: dict[str, str] = {
    "less_memory": "Close other programs, or use fewer --workers.",
    # data and prep
    "empty_classes": "Add images or remove those folders, then run prep again. To keep such "
    "classes and their labels: --allow-empty-class",
    "fewer_workers": "Run the same command to continue, with fewer --workers.",
    "follow_links": "To read what they lead to: --follow-links. Otherwise remove them.",
    "force_room": "Make room, or begin although the disk looks too small: --force",
    "labels": "Sort them into class folders, {folder}, or name a file of names and classes: "
    "--labels FILE. To classify them: alexnet predict {images}",
    "labels_of_parts": "If the table has the classes: --labels {file}. If the folders are the "
    "classes, move the table elsewhere.",
    "leave_out": "Leave out --{option}.",
    "name_columns": "Name the columns: --columns image={image},label={label}",
    "name_class_list": "Name the list that these labels were made with: --classes FILE",
    "name_labels": "Name that file: --labels FILE",
    "name_layout": "Name the folder that holds the images, and its layout: --layout {layouts}",
    "one_layout": "Make both of one layout. To read only what is recognized: --layout {layout}",
    "rebuild": "Rebuild the indexes: alexnet verify {folder} --rebuild",
    "unlabeled_images": "If it is one class of several, name the folder above: {above}. To read "
    "labels from a file: --labels FILE. To classify its images: alexnet predict {folder}",
    "val_fraction": "Choose a --val-fraction of at least 0 and below 1.",
    "raise_limit": "Raise the limit, or use fewer --workers, and run the same command again.",
    "accept_samples": "To accept them, make a dataset: alexnet prep {tars!r} DATASET "
    "--max-bad {count}",
    "allow_pipe": "To run it in a shell: --allow-pipe",
    "pca_of_tars": "Make it: alexnet pca --stream {tars!r}",
    "prep_larger": "Make larger ones: alexnet prep SOURCE DATASET --size {size}",
    "raw_cache_of_tars": "Make a dataset: alexnet prep {tars!r} DATASET; or leave out --cache.",
    "raw_cache_room": "Make room, name another folder: ALEXNET_CACHE=FOLDER, or leave out --cache.",
    "rebuild_samples": "Make it again from the shards: alexnet verify {folder} --rebuild",
    "repair_dataset": "Rebuild what is damaged: alexnet verify {folder} --repair SOURCE",
    "restore_index": "Put its copy back: alexnet verify {folder} --rebuild",
    "sort_tar": "Sort the tar: mkdir x && tar xf {path} -C x && tar cf {new} --sort=name -C x .",
    "stream_tars": "train, eval, errors and pca read them as they are: --stream. For the other "
    "commands make a dataset: alexnet prep {tars!r} DATASET",
    # model, recipes, onnx and pretrained
    "import_model": "Weights of torchvision or Caffe become one: alexnet import {path}",
    "export_model": "Make one: alexnet export MODEL -o {path}",
    "install_or_cpu": "{install} Or run on the CPU: --device cpu",
    # training, inference, distributed and bench
    "allow_data_change": "To resume with these images: --allow-data-change",
    "begin_from_best": "To train: name another --run; --init-from {best} begins with its weights.",
    "begin_from_last": "To begin with its layers: another --run with --init-from {last}",
    "begin_instead": "To begin a new run: the same command without --resume.",
    "check_recipe": "Find out whether this recipe can learn: alexnet check {recipe} --data {data}",
    "class_names": "Say what they are called, one line per class: --class-names FILE",
    "known_classes": (
        "Leave such classes out of the dataset, or say what they are called: --class-names FILE"
    ),
    "name_onnx": "Name it so: -o {path}",
    "report_name": "Name it so: -o report.html",
    "figure_name": "Name it with one of them: -o FILE.png",
    "free_memory": "Close other programs that use this memory. On a GPU also try: --device cpu",
    "free_space_and_resume": "Free some space, then the same command with --resume",
    "index_model": "Name the network that the index was made with: --model MODEL",
    "join_minutes": "Start all replicas with one MASTER_ADDR, or let them wait: --join-minutes 60",
    "lower_learning_rate": "Try --set learning_rate={value} in another --run.",
    "make_index": "Make one: alexnet features MODEL DATA -o {path}",
    "make_predictions": "Make one: alexnet eval MODEL DATASET -o {path}",
    "predictions_of": "Write its predictions: alexnet eval {model} DATASET -o FILE.npz",
    "null_separated": "If they end the names, as find -print0 writes them: --null",
    "line_separated": "Leave out --null.",
    "name_classes": "Say what the labels mean: --classes FILE",
    "name_dataset": "Name it: --data DATASET",
    "finetune_recipe": "To train that network further: --recipe finetune",
    "name_init_from": "Name its checkpoint: --init-from MODEL, or torchvision",
    "name_model": (
        "Fetch a trained one: --model torchvision. Or name yours: --model RUN or FILE.onnx"
    ),
    "on_cpu": "Without GPUs: --device cpu --gpus {gpus}",
    "on_one_cpu": "Without GPUs: --device cpu",
    "other_run": "To train: name another --run.",
    "repair_and_resume": "{repair} Then continue with --resume.",
    "replace_file": "Add --force to replace it.",
    "resume": "To continue: the same command with --resume",
    "resume_or_rename": "To train: add --resume to continue it, or name another --run.",
    "resume_own_recipe": (
        "To continue it: --resume without --recipe and --set. Another recipe: another --run."
    ),
    "resume_own_start": (
        "To continue it: leave out --init-from. To begin with its layers: another --run."
    ),
    "retry_on_cpu": "Run the same command again. If the GPU fails again: --device cpu",
    "run_in_use": "Wait for it, or name another --run.",
    "smaller_batch": (
        "Try --set batch_size={batch} in another --run, or share each batch among more GPUs: "
        "--resume --gpus 2 --columns 1"
    ),
    "smaller_bench_batch": "Try --batch-size {batch}",
    "whole_replicas": "For {gpus} replicas of one device each: --gpus {gpus} --columns 1",
    "without_compile": "Run it without --compile.",
    # reproduce
    "dataset_of_table": "Name a dataset with --data {name}=DATASET, or see the plan: --dry-run",
    "validation_split": "Prepare it again with --val-fraction 0.1, or with val/ beside train/.",
}


def message(error: AlexNetError) -> str:
    """Return the lines of an error: its problem, what is kept, what to do next."""
    parts = (error.problem, error.kept, sentence(error.hint))
    return "\n".join(on_one_line(part) for part in parts if part)


def sentence(hint: str | Hint | None) -> str:
    """Return the text of a hint, whose values may be hints themselves."""
    if not isinstance(hint, Hint):
        return hint or ""
    values = {
        name: sentence(value) if isinstance(value, Hint) else value
        for name, value in hint.values.items()
    }
    return HINTS[hint.name].format(**values).strip()

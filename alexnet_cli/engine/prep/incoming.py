"""Tars at URLs as the source of a prep: brought into its folder, unless it began with others."""

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from alexnet_cli.atomic import read_sealed
from alexnet_cli.data.releases.fetched import ForeignTars, look_at
from alexnet_cli.data.shards.index import INDEX_NAME, read_index
from alexnet_cli.data.shards.writer import RECORDS
from alexnet_cli.data.streams.tar_source import PIPE, TarSet
from alexnet_cli.engine.prep.folder import PLAN_NAME, TARS, another_dataset
from alexnet_cli.engine.prep.shard_plan import PrepOptions
from alexnet_cli.errors import DatasetError, UsageError
from alexnet_cli.progress import Progress

LAYOUT = "webdataset"
ORIGIN = ("fetched", "tars")  # what index.json tells of them: their addresses, and a fingerprint


def check_options(source: TarSet, how: dict, options: PrepOptions) -> None:
    """Refuse what is for other sources, before anything is fetched.

    Raises:
        UsageError: it names the first option.
    """
    wrong = {
        f"--layout {how['layout']}": how["layout"] not in (None, LAYOUT),
        "--check-md5": how["md5"],
        "--follow-links": how["follow_links"],
        "--val-fraction": options.val_fraction,
    }
    for option, is_given in wrong.items():
        if is_given:
            raise UsageError(
                f"{option}: {source} can only be WebDataset tars, which bring their own splits.\n"
                "Nothing was fetched. Leave it out."
            )


def bring(
    source: TarSet, folder: Path, options: PrepOptions, progress: Progress, *, force: bool
) -> tuple[Path | None, dict]:
    """Fetch the tars into the dataset being made; nothing if the dataset is complete.

    Returns:
        The folder of the tars, None if the dataset is there; and what index.json tells of them.

    Raises:
        AlexNetError: as `look_at` and `ForeignTars.fetch`.
        DatasetError: the dataset was made, or begun, of other tars or with other options.
    """
    tars = look_at(source, progress)
    origin = dict(zip(ORIGIN, (_shown(tars), tars.fingerprint()), strict=True))
    is_complete = (folder / INDEX_NAME).exists()
    _check_same(folder, _made_or_begun(folder, is_complete), asdict(options), origin)
    if is_complete:
        return None, origin
    try:
        return tars.fetch(folder / RECORDS / TARS, progress, force=force), origin
    finally:
        with suppress(OSError):  # not empty: there is something to go on with
            (folder / RECORDS).rmdir()


def _shown(tars: ForeignTars) -> str:
    """Return the addresses as the user gave them; a command, which may hold a key, stays here."""
    is_command = any(tar.address.startswith(PIPE) for tar in tars.tars)
    return PIPE if is_command else str(tars.source)


def _made_or_begun(folder: Path, is_complete: bool) -> dict | None:
    if is_complete:
        index = read_index(folder)
        return {"options": index.options, "source": index.source}
    return read_sealed(folder / RECORDS / PLAN_NAME)


def _check_same(folder: Path, found: dict | None, options: dict, origin: dict) -> None:
    if found is None:
        return
    wanted = {"options": options, "source": {**found["source"], **origin}}
    if found == wanted:
        return
    if found == {**wanted, "source": {**wanted["source"], "tars": found["source"].get("tars")}}:
        raise DatasetError(
            f"{origin['fetched']}: changed since {folder} was begun (the tars, or --classes).\n"
            "It is left as it is, and nothing was fetched. To begin anew: remove it, or name "
            "another folder."
        )
    raise another_dataset(folder, found, wanted)

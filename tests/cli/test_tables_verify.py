from alexnet_cli.cli.tables_verify import show_verify

FINDING = {
    "file": "train-000003.tar", "key": "train-00000017", "what": "the label in KEY.cls",
    "expected": "3", "found": "'7'",
}  # fmt: skip
RESULT = {
    "dataset": "shards/a", "deep": True, "shards": 8, "samples": 8000, "bytes": 200_000_000,
    "seconds": 0.5, "findings": [], "repaired": [], "replaced": [],
}  # fmt: skip


def shown(capsys, **changes) -> str:
    show_verify({**RESULT, **changes})
    return capsys.readouterr().out


def test_whole_dataset_is_said_to_be(capsys):
    text = shown(capsys)
    assert "8 shards, 8,000 samples, decoded, 200 MB at 400 MB/s" in text
    assert "every byte is as prep wrote it" in text


def test_finding_names_shard_sample_expected_and_found(capsys):
    line = "train-000003.tar: sample train-00000017: the label in KEY.cls: expected 3, found '7'"
    text = shown(capsys, findings=[FINDING])
    assert line in text
    assert "every byte" not in text


def test_finding_about_a_whole_file_names_no_sample(capsys):
    assert "sample" not in shown(capsys, findings=[{**FINDING, "key": ""}]).split("\n")[1]


def test_repaired_files_are_listed(capsys):
    text = shown(capsys, repaired=[FINDING], replaced=["train-000003.tar"])
    assert "repaired train-000003.tar: sample" in text
    assert "replaced: train-000003.tar" in text


def test_nothing_read_in_no_time_is_no_fault(capsys):
    assert "0 MB at 0 MB/s" in shown(capsys, bytes=0, seconds=0.0)

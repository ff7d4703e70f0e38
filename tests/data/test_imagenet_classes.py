import subprocess
import sys

from torchvision.models._meta import _IMAGENET_CATEGORIES

from alexnet_cli.data.imagenet_classes import imagenet_classes, shown_name


def test_table_has_the_thousand_classes_in_label_order():
    classes = imagenet_classes()
    wnids = [entry.wnid for entry in classes]
    assert len(classes) == len(set(wnids)) == 1000
    assert wnids == sorted(wnids)
    assert wnids.index("n01751748") == 65
    assert all(entry.name and entry.name.isascii() for entry in classes)


def test_order_is_that_of_torchvision():
    pairs = zip(imagenet_classes(), _IMAGENET_CATEGORIES, strict=True)
    others = [(c.name, theirs) for c, theirs in pairs if theirs not in c.name.split(", ")]
    # Some names of torchvision tell twins apart, or are spelled in another way.
    assert len(others) < 20, others


def test_wnid_without_words_is_shown_with_those_of_imagenet():
    assert shown_name("n01440764", "n01440764") == "tench, Tinca tinca"
    assert shown_name("n01440764", "a fish") == "a fish"
    assert shown_name("n99999999", "n99999999") == "n99999999"
    assert shown_name("cat", "cat") == "cat"


def test_table_is_read_only_when_a_name_is_missing_and_without_torch():
    code = (
        "import sys\n"
        "from alexnet_cli.data import imagenet_classes as table\n"
        "table.shown_name('n01440764', 'a fish')\n"
        "assert table._words.cache_info().currsize == 0\n"
        "table.shown_name('n01440764', 'n01440764')\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)

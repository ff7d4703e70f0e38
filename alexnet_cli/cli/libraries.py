"""What libraries print of their own: nothing, as our messages say what a user can act on."""

import os
import sys


def silence_libraries() -> None:
    """Keep warnings and logs of libraries from stderr, except with `python -W` or --debug."""
    if sys.warnoptions or "--debug" in sys.argv or os.environ.get("ALEXNET_DEBUG") == "1":
        return
    import logging
    import warnings

    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # before torch is imported
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("default", module="alexnet_cli")
    logging.getLogger().addHandler(logging.NullHandler())  # the last resort would be stderr

"""Other spellings that people type, made into those that the commands declare."""

ANYWHERE = ("--debug", "--quiet", "-q", "--verbose", "-v")  # before the command or after it
MODEL_OPTIONS = ("--model", "--weights", "--checkpoint")


def common_first(words: list[str]) -> list[str]:
    """Return a command line with the options of all commands before the command.

    `help COMMAND` becomes `COMMAND --help`.
    """
    end = words.index("--") if "--" in words else len(words)
    common = [word for word in words[:end] if word in ANYWHERE]
    rest = [word for word in words[:end] if word not in ANYWHERE] + words[end:]
    if rest[:1] == ["help"]:
        rest = [*rest[1:], "--help"]
    return common + rest


def with_model(words: list[str], own: set[str], takes_model: bool) -> list[str]:
    """Return a command's arguments with MODEL where the command expects it.

    Args:
        own: the options of the command.
        takes_model: whether MODEL is its first argument.
    """
    if not takes_model and "--model" not in own:
        return words
    models, rest = [], []
    left = iter(words)
    for word in left:
        name, equals, value = word.partition("=")
        if word == "--":
            rest += [word, *left]
        elif name not in MODEL_OPTIONS or name in own:
            rest.append(word)
        elif equals or (value := next(left, "")):
            models.append(value)
        else:
            rest.append(word)
    if "--model" in own:
        models = [f"--model={model}" for model in models]
    return [*models, *rest]

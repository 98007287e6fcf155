"""The one exception for what a user can put right."""


class InputError(ValueError):
    """Bad input: a single line that names what was wrong, what was expected and what was given.

    `rnnlab.cli` prints it without a traceback and exits with status 2.
    """

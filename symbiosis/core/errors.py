"""The one exception for input that the user can mend."""


class InputError(ValueError):
    """Bad input, told in one message that names the file, the row or key and the fix.

    A stage prints the message alone, without a traceback, and exits with status 1.
    """

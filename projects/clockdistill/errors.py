"""The base of all exceptions that a user can fix; other exceptions are faults of the program."""


class UserError(ValueError):
    """A mistake of the user, or of the user's files; a command line shows it without a traceback.

    The message says what was found, what was expected and "Fix: ...", on at most three lines.
    """

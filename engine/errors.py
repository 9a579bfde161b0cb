"""The two ways in which Duetto stops on purpose."""


class InputError(ValueError):
    """The input cannot be used as given: one line saying what, where and what to do.

    The command line prints the line and exits with 2.
    """


class RunStopped(RuntimeError):
    """A run cannot go on honestly: non-finite forces, a partition that no longer holds.

    The command line prints the line and exits with 1.
    """

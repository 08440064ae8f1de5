"""What a user can put right. It needs nothing, so that every layer can import it."""


class UserError(ValueError):
    """What a user can put right; the command line prints its message and nothing else."""

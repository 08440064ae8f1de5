"""What a user can put right. It needs nothing, so that every layer can import it."""


class UserError(ValueError):
    """What a user can put right; the command line prints its message and nothing else."""

    code = 2
    """What the command line exits with: 2 asked wrongly, 1 failed."""


class ConfigError(UserError):
    """A configuration that cannot be read or does not make sense."""

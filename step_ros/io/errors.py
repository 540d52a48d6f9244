"""The error of a dataset that cannot be used."""


class DatasetError(ValueError):
    """A dataset's configuration, options or annotation files cannot be used."""

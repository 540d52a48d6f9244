# SPDX-License-Identifier: Apache-2.0
"""The error of datasets that cannot be used."""


class DatasetError(ValueError):
    """A dataset's configuration, options or annotation files cannot be used."""

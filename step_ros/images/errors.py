# SPDX-License-Identifier: Apache-2.0
"""The error of a frame that cannot be used."""


class FrameError(ValueError):
    """A frame cannot be used.

    Args:
        cause: Identifier for counting, for example `unknown_encoding`.
        detail: The fault and the expected content.
    """

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause

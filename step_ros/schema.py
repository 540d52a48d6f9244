# SPDX-License-Identifier: Apache-2.0
"""The base class of all records that are read from YAML."""

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """A record that refuses unknown keys and non-finite numbers."""

    model_config = ConfigDict(extra='forbid', frozen=True, allow_inf_nan=False)

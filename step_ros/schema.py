"""The base of every record that is read from YAML: an unknown key is an error."""

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """A record in which an unknown key is an error."""

    model_config = ConfigDict(extra='forbid', frozen=True, allow_inf_nan=False)

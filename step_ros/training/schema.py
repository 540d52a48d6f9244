"""Types that several training records share."""

from typing import Annotated

from pydantic import Field

# Rows and columns of patch tokens.
TokenGrid = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]

"""What all parts of a config have in common."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Unknown keys and silently converted types are refused; a checked config does not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

"""What every part of the config is made of."""

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """A part of the config: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _empty_key_is_default(cls, data: object) -> object:
        """`environment:` with nothing after it is null in YAML; it means that nothing is set."""
        if not isinstance(data, dict):
            return data
        fields = cls.model_fields
        empty = {
            name
            for name, value in data.items()
            if value is None and name in fields and not fields[name].is_required() and fields[name].default is not None
        }
        return {name: value for name, value in data.items() if name not in empty}

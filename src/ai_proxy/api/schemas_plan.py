"""What the management API says of a start that is only thought through."""

from typing import Literal

from pydantic import Field

from ai_proxy.api.schemas import PlacementOut, Wire
from ai_proxy.api.schemas_scheduling import Asked

Verdict = Literal["running", "start", "evict", "wait", "refuse"]


class PlanIn(Asked):
    """What to think through."""

    start: str = Field(description="Id of the service that is to start.", examples=["chat"])


class VictimOut(Wire):
    """Who would have to give room."""

    holder: str = Field(description="The replica: its service, with a number if there are several.", examples=["embed"])
    level: int = Field(description="0: it would stop; else the level at which it would sleep.", examples=[0])


class PlanOut(Wire):
    """What would happen."""

    service: str = Field(description="The service.", examples=["chat"])
    verdict: Verdict = Field(
        description="`running`: it is ready or on its way. `start`: it fits. `evict`: it fits once some idle ones have "
        "given room. `wait`: others are busy. `refuse`: it can't be started as things are.",
        examples=["evict"],
    )
    reason: str = Field(description="Why.", examples=["1 GPU with 9,000 MB fits on GPU 0 once embed has stopped"])
    placement: PlacementOut | None = Field(description="Where it would run; null where that is open.")
    victims: list[VictimOut] = Field(description="Who would have to give room.")
    regret: float | None = Field(
        description="What their leaving is expected to cost, in weighed seconds of loading; null if nobody has to.",
        examples=[3.2],
    )
    exact: bool | None = Field(
        description="Nobody else would be missed less; false: the search for them was cut off. Null if nobody has to.",
        examples=[True],
    )

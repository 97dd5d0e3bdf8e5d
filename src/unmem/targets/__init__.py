"""What a model that was not trained on an example would predict for it: the goal of matching and of tuning."""

from unmem.targets.crossfit import FromCrossFit
from unmem.targets.ensemble import FromMembers
from unmem.targets.teacher import ShortTeacher
from unmem.targets.trace import Trace, TraceRecorder
from unmem.targets.types import Request, Source, Targets
from unmem.targets.window import window

__all__ = [
    "FromCrossFit",
    "FromMembers",
    "Request",
    "ShortTeacher",
    "Source",
    "Targets",
    "Trace",
    "TraceRecorder",
    "window",
]

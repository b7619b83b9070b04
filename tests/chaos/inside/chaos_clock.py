"""A clock that is wrong: what Python tells of the time is off by as many seconds as the file named in CHAOS_CLOCK says, if it is there.

To be imported before anything that imports datetime. Time that only passes (time.monotonic) is left alone, as a wrong clock does.
"""

import datetime
import os
import time

_real_time, _RealDatetime = time.time, datetime.datetime


def _shift() -> float:
    try:
        with open(os.environ["CHAOS_CLOCK"], encoding="ascii") as file:
            return float(file.read() or 0)
    except (KeyError, OSError, ValueError):
        return 0.0


class _AnyDatetime(type):
    def __instancecheck__(cls, instance):
        return isinstance(instance, _RealDatetime)


class _ShiftedDatetime(_RealDatetime, metaclass=_AnyDatetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=_shift())

    @classmethod
    def utcnow(cls):
        return super().utcnow() + datetime.timedelta(seconds=_shift())


time.time = lambda: _real_time() + _shift()
datetime.datetime = _ShiftedDatetime

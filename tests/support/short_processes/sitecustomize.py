"""Makes the plays of the tests collect no garbage: their processes are short. PYTHONPATH names this directory."""

import gc

gc.disable()

"""Makes the plays of the tests compile the source of a module only once, and collect no garbage: their processes are short.

Python loads this file at its start if PYTHONPATH names its directory. Ansible ships a module as a zip file, and Python does not keep the
bytecode of what it imports from a zip file: every task compiles some 70 files, which is a fifth of the CPU time of a play. This keeps the
bytecode in the directory COMPILED_ONCE, by the hash of the source. So what runs is still the source that Ansible shipped.
"""

import gc
import hashlib
import marshal
import os
import sys
import zipimport

KEPT = os.environ["COMPILED_ONCE"]
compile_source = zipimport._compile_source


def compile_once(path, source):
    kept = os.path.join(KEPT, f"{hashlib.sha256(source).hexdigest()}.{sys.implementation.cache_tag}")
    try:
        with open(kept, "rb") as file:
            return marshal.load(file)
    except FileNotFoundError:
        code = compile_source(path, source)
        unfinished = f"{kept}.{os.getpid()}"
        with open(unfinished, "wb") as file:
            marshal.dump(code, file)
        os.replace(unfinished, kept)
        return code


zipimport._compile_source = compile_once
gc.disable()

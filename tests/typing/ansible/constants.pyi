from typing import Any

DEFAULT_LOCAL_TMP: str

def __getattr__(name: str) -> Any: ...

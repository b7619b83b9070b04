"""What a request asks for: the action and its parameters, in either of AWS's protocols."""

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from embedded_cloud.base.messages import Request

_FORM = "application/x-www-form-urlencoded"


class UnclearCallError(ValueError):
    """The request names no action, or two, so that what is authorised and what is done could differ."""


@dataclass(frozen=True)
class Call:
    """`action` without its prefix (RunInstances); `parameters` as sent: a form's flat names, or a JSON object."""

    service: str
    action: str
    parameters: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.service}:{self.action}"

    @property
    def iam_action(self) -> str:
        return f"{'cloudwatch' if self.service == 'monitoring' else self.service}:{self.action}"

    def flat(self) -> list[tuple[str, str]]:
        """The name and value of every parameter; of a list, each of its values."""
        return [(name, str(one)) for name, value in self.parameters.items() for one in (value if isinstance(value, list) else [value])]

    def values(self, name: str) -> list[str]:
        """The values of a parameter: of a single one, of a list (`Names`) or of a form's list (`Names.member.1`, `InstanceId.1`)."""
        return [value for key, value in self.flat() if re.fullmatch(rf"{re.escape(name)}((\.member)?\.\d+)?", key)]

    def value(self, name: str) -> str:
        return next(iter(self.values(name)), "")


def read_call(request: Request, service: str) -> Call:
    """The one call of a signed request. Raises UnclearCallError when its action is missing or named twice, or for an unknown protocol."""
    target = request.headers.get("x-amz-target", "")
    plain_query = {name: values for name, values in request.query.items() if not name.lower().startswith("x-amz-")}
    if target:
        if plain_query or request.headers.get("content-type", "").startswith(_FORM):
            raise UnclearCallError("The action must be named once, in X-Amz-Target or in the form.")
        try:
            parameters = json.loads(request.body or b"{}")
        except ValueError as error:
            raise UnclearCallError(f"The body is not JSON: {error}") from error
        if not isinstance(parameters, dict):
            raise UnclearCallError("The body is not a JSON object.")
        return Call(service, target.rpartition(".")[2], parameters)
    if request.body and plain_query:
        raise UnclearCallError("The action must be named once, in the query string or in the body.")
    if request.body and not request.headers.get("content-type", "").startswith(_FORM):
        raise UnclearCallError("This cloud speaks AWS's query and JSON protocols; this is neither.")
    form = parse_qs(request.body.decode("utf-8", "replace"), keep_blank_values=True) if request.body else plain_query
    if len(form.get("Action", [])) != 1:
        raise UnclearCallError("The request must name exactly one Action.")
    return Call(service, form["Action"][0], dict(form))

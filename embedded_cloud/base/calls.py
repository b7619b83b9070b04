"""What a request asks for: the action and its parameters, in either of AWS's protocols."""

import json
import re
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlencode

from embedded_cloud.base.messages import Request

# IAM's name for a service, by the service of the signature.
NAMESPACES = {"ec2": "ec2", "monitoring": "cloudwatch", "ssm": "ssm", "iam": "iam"}

_FORM = "application/x-www-form-urlencoded"
_SIGNATURE_PARAMETERS = re.compile(r"X-Amz-", re.IGNORECASE)


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
        return f"{NAMESPACES[self.service]}:{self.action}"

    def values(self, name: str) -> list[str]:
        """The values of a parameter: of a single one, of a list (`Names`) or of a form's list (`Names.member.1`, `InstanceId.1`)."""
        found: list[str] = []
        for key, value in self.parameters.items():
            if key == name or re.fullmatch(rf"{re.escape(name)}(\.member)?\.\d+", key):
                found += [str(item) for item in value] if isinstance(value, list) else [str(value)]
        return found

    def value(self, name: str) -> str:
        return next(iter(self.values(name)), "")


def read_call(request: Request, service: str) -> Call:
    """The one call of a signed request.

    Raises UnclearCallError when the action is missing or named in two places, or for a protocol that the emulators do not speak.
    """
    target = request.headers.get("x-amz-target", "")
    plain_query = {name: values for name, values in request.query.items() if not _SIGNATURE_PARAMETERS.match(name)}
    if target:
        if plain_query or request.headers.get("content-type", "").startswith(_FORM):
            raise UnclearCallError("The action must be named once, in X-Amz-Target or in the form.")
        return Call(service, target.rpartition(".")[2], _json_object(request.body))
    if request.body and plain_query:
        raise UnclearCallError("The action must be named once, in the query string or in the body.")
    if request.body and not request.headers.get("content-type", "").startswith(_FORM):
        raise UnclearCallError("This cloud speaks AWS's query and JSON protocols; this is neither.")
    form = parse_qs(request.body.decode("utf-8", "replace"), keep_blank_values=True) if request.body else plain_query
    if len(form.get("Action", [])) != 1:
        raise UnclearCallError("The request must name exactly one Action.")
    return Call(service, form["Action"][0], dict(form))


def with_parameter(request: Request, call: Call, name: str, value: str) -> Request:
    """The same request (its signature already checked) with one parameter of its form replaced."""
    form = urlencode(call.parameters | {name: [value]}, doseq=True)
    return replace(request, body=form.encode()) if request.body else replace(request, query_string=form)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body or b"{}")
    except ValueError as error:
        raise UnclearCallError(f"The body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise UnclearCallError("The body is not a JSON object.")
    return value

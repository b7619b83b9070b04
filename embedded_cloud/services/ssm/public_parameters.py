"""AWS's public SSM parameters, which only moto has, and the `resolve:ssm:` images that refer to them."""

from dataclasses import replace
from urllib.parse import urlencode

from ministack.core import responses

from embedded_cloud.base.calls import Call
from embedded_cloud.base.messages import Request
from embedded_cloud.base.moto_backend import MotoBackend
from embedded_cloud.iam.ec2_permissions import image_parameter

PREFIX = "/aws/service/"


def asks_for_public_parameters(call: Call) -> bool:
    """Whether a call to SSM reads public parameters only."""
    names = call.values("Name") + call.values("Names") + call.values("Path")
    reads = call.action in ("GetParameter", "GetParameters", "GetParametersByPath")
    return reads and bool(names) and all(f"{name}/".startswith(PREFIX) for name in names)


async def with_image_resolved(request: Request, call: Call, moto: MotoBackend) -> Request:
    """RunInstances as moto understands it: with the image itself where the request names a public parameter, which exists."""
    name = image_parameter(call)
    if not name:
        return request
    parameter = await moto.run(lambda: moto.backend("ssm", responses.get_region()).get_parameter(name))
    form = urlencode(call.parameters | {"ImageId": [parameter.value]}, doseq=True)  # the signature was checked before
    return replace(request, body=form.encode()) if request.body else replace(request, query_string=form)

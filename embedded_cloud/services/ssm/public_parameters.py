"""AWS's public SSM parameters, which only moto has, and the `resolve:ssm:` images that refer to them."""

from ministack.core.router import extract_region

from embedded_cloud.base.calls import Call, with_parameter
from embedded_cloud.base.messages import Request
from embedded_cloud.base.moto_backend import MotoBackend

PREFIX = "/aws/service/"
RESOLVE = "resolve:ssm:"
_READS = frozenset({"GetParameter", "GetParameters", "GetParametersByPath"})


def asks_for_public_parameters(call: Call) -> bool:
    """Whether a call to SSM reads public parameters only."""
    names = call.values("Name") + call.values("Names") + call.values("Path")
    return call.action in _READS and bool(names) and all(f"{name}/".startswith(PREFIX) for name in names)


def named_by_image(call: Call) -> str:
    """The public parameter that the ImageId of a launch names; empty when it is an image's id."""
    image = call.value("ImageId") if call.action == "RunInstances" else ""
    return image.removeprefix(RESOLVE) if image.startswith(RESOLVE) else ""


async def with_image_resolved(request: Request, call: Call, moto: MotoBackend) -> Request:
    """RunInstances as moto understands it: with the image itself where the request names a public parameter, which exists."""
    name = named_by_image(call)
    if not name:
        return request
    region = extract_region(request.headers, request.query)
    parameter = await moto.run(lambda: moto.backend("ssm", region).get_parameter(name))
    return with_parameter(request, call, "ImageId", parameter.value)

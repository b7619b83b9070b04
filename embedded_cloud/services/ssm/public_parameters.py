"""AWS's public SSM parameters, which moto has and MiniStack has not, and the `resolve:ssm:` images that refer to them."""

from ministack.core.router import extract_region

from embedded_cloud.base.calls import Call, with_parameter
from embedded_cloud.base.messages import Request
from embedded_cloud.base.moto_backend import MotoBackend

PREFIX = "/aws/service/"
_RESOLVE = "resolve:ssm:"
_READS = frozenset({"GetParameter", "GetParameters", "GetParametersByPath"})


class UnresolvableImageError(LookupError):
    """The parameter an image refers to does not exist."""


def asks_for_public_parameters(call: Call) -> bool:
    """Whether a call to SSM reads public parameters only."""
    names = call.values("Name") + call.values("Names") + call.values("Path")
    return call.action in _READS and bool(names) and all(f"{name}/".startswith(PREFIX) for name in names)


async def with_image_resolved(request: Request, call: Call, moto: MotoBackend) -> Request:
    """RunInstances as moto understands it: with the image itself where the request names a public parameter.

    UnresolvableImageError when there is no such parameter.
    """
    image = call.value("ImageId")
    if call.action != "RunInstances" or not image.startswith(_RESOLVE):
        return request
    name = image.removeprefix(_RESOLVE)
    region = extract_region(request.headers, request.query)
    parameter = await moto.run(lambda: moto.backend("ssm", region).get_parameter(name))
    if parameter is None:
        raise UnresolvableImageError(f"The SSM parameter {name} of ImageId {image} does not exist")
    return with_parameter(request, call, "ImageId", parameter.value)

"""Who gets into the embedded cloud: nobody but the user who runs it, and never through a browser. Asked by raw sockets, on every path."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from h2.connection import H2Connection
from refusals import make_function, make_role, package

from embedded_cloud.base.door import Door, user_of

REGION = "us-east-1"
NOBODY = 65534
TRUST = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]})
PATHS = (
    "/",
    "/_embedded_cloud/health",
    "/_embedded_cloud/resources",
    "/_embedded_cloud/faults",
    "/_embedded_cloud/deliveries",
    "/_embedded_cloud/permissions?access_key=x",
    "/_imds/producer/latest/api/token",
    "/_ministack/health",
    "/_ministack/reset",
    "/_ministack/lambda-code/x",
    "/_aws/sqs/messages",
    "//_ministack/reset",
    "/%5Fministack/reset",
    "/2015-03-31/functions/",
    "/latest/meta-data/",
    "/000000000000/queue",
)
# What a browser adds to what a page makes it send, one header at a time: each alone must do.
BROWSERS = {
    "another site": "Origin: https://example.com",
    "no site": "Origin: null",
    "this cloud itself": "Origin: http://127.0.0.1:{port}",
    "small letters": "origin: https://example.com",
    "a tab": "Origin:\thttps://example.com",
    "cross-site": "Sec-Fetch-Site: cross-site",
    "same-site": "Sec-Fetch-Site: same-site",
    "same-origin": "Sec-Fetch-Site: same-origin",
    "address bar": "Sec-Fetch-Site: none",
    "capitals": "SEC-FETCH-SITE: cross-site",
    "mode": "Sec-Fetch-Mode: no-cors",
    "websocket": "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "link": "Referer: https://example.com/",
    "cookie": "Cookie: a=b",
    "preflight": "Access-Control-Request-Method: POST",
    "private network": "Access-Control-Request-Private-Network: true",
}
HOSTS = {
    "foreign": ["example.com"],
    "foreign, with our port": ["example.com:{port}"],
    "rebound": ["127.0.0.1.example.com:{port}"],
    "another loopback": ["127.0.0.2:{port}"],
    "a name that leads here": ["localhost.example.com:{port}"],
    "root's dot": ["localhost.:{port}"],
    "with a user": ["127.0.0.1:{port}@example.com"],
    "another port": ["127.0.0.1:1"],
    "no port": ["127.0.0.1"],
    "any": ["0.0.0.0:{port}"],
    "a number": ["2130706433:{port}"],
    "empty": [""],
    "none": [],
    "ours and foreign": ["127.0.0.1:{port}", "example.com"],
    "foreign and ours": ["example.com", "127.0.0.1:{port}"],
    "ours twice": ["127.0.0.1:{port}", "127.0.0.1:{port}"],
    "a bucket": ["bucket.localhost:{port}"],
    "a function's": ["abc.lambda-url.us-east-1.localhost:{port}"],
}


@pytest.fixture(scope="module")
def cloud(start_cloud):
    """One of its own, which stays empty."""
    return start_cloud()


def ask(cloud, method: str, path: str, lines: list[str], body: bytes = b"", version: str = "1.1", hosts: list[str] | None = None) -> bytes:
    """All that the cloud says to a request, sent as it stands."""
    named = [f"Host: {host}" for host in (["127.0.0.1:{port}"] if hosts is None else hosts)]
    head = "\r\n".join([f"{method} {path} HTTP/{version}", *named, *lines, "Connection: close"]).replace("{port}", str(cloud.port))
    length = f"\r\nContent-Length: {len(body)}" if body else ""
    return send(cloud, f"{head}{length}\r\n\r\n".encode() + body)


def send(cloud, text: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", cloud.port), timeout=20) as connection:
        connection.sendall(text)
        answer = b""
        while more := connection.recv(65536):
            answer += more
        return answer


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def create_role(cloud, name: str, keys: tuple[str, str] | None = None, sign: type = SigV4QueryAuth) -> tuple[str, list[str], bytes]:
    """Path, headers and body of a signed call that makes a role."""
    form = urlencode({"Action": "CreateRole", "Version": "2010-05-08", "RoleName": name, "AssumeRolePolicyDocument": TRUST})
    in_query = sign is SigV4QueryAuth
    url = f"{cloud.endpoint}/" + (f"?{form}" if in_query else "")
    request = AWSRequest("POST", url, {} if in_query else {"Content-Type": "application/x-www-form-urlencoded"}, b"" if in_query else form)
    sign(Credentials(*(keys or cloud.root_keys.values())), "iam", REGION).add_auth(request)
    prepared = request.prepare()
    return prepared.url.removeprefix(cloud.endpoint), [f"{name}: {value}" for name, value in prepared.headers.items()], form.encode()


def roles(cloud) -> list[str]:
    return [role["RoleName"] for role in cloud.client("iam").list_roles()["Roles"]]


@pytest.mark.parametrize("sign", [SigV4QueryAuth, SigV4Auth], ids=["presigned", "header"])
def test_a_call_that_root_signed_is_carried_out(cloud, sign):
    # Else the refusals below would prove nothing.
    path, headers, form = create_role(cloud, f"door-{sign.__name__}", sign=sign)
    headers = [line for line in headers if not line.lower().startswith("content-length")]
    answer = ask(cloud, "POST", path, headers, b"" if sign is SigV4QueryAuth else form)
    assert status(answer) == 200, answer
    assert b"access-control-" not in answer.lower()
    assert f"door-{sign.__name__}" in roles(cloud)


@pytest.mark.parametrize("header", BROWSERS.values(), ids=BROWSERS)
def test_a_browser_gets_nothing_on_any_path(cloud, header):
    before = roles(cloud)
    for method in ("GET", "POST", "PUT", "DELETE", "HEAD"):
        for path in PATHS:
            body = b"" if method in ("GET", "HEAD") else b'{"rate": 1}'
            answer = ask(cloud, method, path, [header, "Content-Type: text/plain"], body)
            assert (status(answer), b"access-control-" in answer.lower()) == (403, False), (method, path, answer)
    signed, headers, _form = create_role(cloud, "door-browser")
    assert status(ask(cloud, "POST", signed, [*headers, header], b"")) == 403
    assert roles(cloud) == before


@pytest.mark.parametrize("hosts", HOSTS.values(), ids=HOSTS)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_only_this_machine_and_this_port_are_a_host(cloud, hosts, version):
    before = roles(cloud)
    for path in (*PATHS, create_role(cloud, "door-host")[0]):
        # Without any Host, or with two, a request of HTTP/1.1 may be refused as malformed already.
        assert status(ask(cloud, "POST", path, [], b"{}", version, hosts)) in (400, 403), path
    assert roles(cloud) == before


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LocalHost:{port}", "[::1]:{port}"])
def test_every_name_of_this_machine_is_one(cloud, host):
    assert status(ask(cloud, "GET", "/_embedded_cloud/health", [], hosts=[host])) == 200


@pytest.mark.parametrize(
    "target", ["http://example.com/_embedded_cloud/health", "http://127.0.0.1/_embedded_cloud/health", "*", "example.com:80"]
)
@pytest.mark.parametrize("method", ["GET", "CONNECT", "OPTIONS"])
def test_a_request_line_that_names_a_host_is_refused(cloud, target, method):
    assert status(ask(cloud, method, target, [])) in (400, 403)


@pytest.mark.parametrize("path", PATHS)
def test_a_preflight_is_refused(cloud, path):
    answer = ask(cloud, "OPTIONS", path, [])
    assert (status(answer), b"access-control-" in answer.lower()) == (403, False)


def test_a_body_in_chunks_gets_past_nothing(cloud):
    lines = [
        "POST /_ministack/reset HTTP/1.1",
        f"Host: 127.0.0.1:{cloud.port}",
        "Transfer-Encoding: chunked",
        "Origin: null",
        "Connection: close",
    ]
    assert status(send(cloud, "\r\n".join([*lines, "", "2", "{}", "0", "", ""]).encode())) == 403


def test_a_websocket_is_refused(cloud):
    upgrade = ["Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    lines = ["GET / HTTP/1.1", f"Host: 127.0.0.1:{cloud.port}", "Connection: Upgrade", *upgrade]
    assert status(send(cloud, "\r\n".join([*lines, "", ""]).encode())) == 403


@pytest.mark.parametrize(
    ("host", "headers", "expected"), [("127.0.0.1", [], 200), ("example.com", [], 403), ("127.0.0.1", ["origin"], 403)]
)
def test_http_2_knows_the_same_door(cloud, host, headers, expected):
    talk = H2Connection()
    talk.initiate_connection()
    named = [(":method", "GET"), (":path", "/_embedded_cloud/health"), (":scheme", "http"), (":authority", f"{host}:{cloud.port}")]
    talk.send_headers(1, named + [(name, "null") for name in headers], end_stream=True)
    with socket.create_connection(("127.0.0.1", cloud.port), timeout=20) as connection:
        connection.sendall(talk.data_to_send())
        while True:
            events = talk.receive_data(connection.recv(65536))
            answered = [dict(event.headers) for event in events if hasattr(event, "headers")]
            if answered:
                break
    assert answered[0][b":status"] == str(expected).encode()


# Keys that are public knowledge, that MiniStack takes for some account's root, or none at all; and root's own with another secret.
KEYS = {
    "test": ("test", "test"),
    "the account": ("000000000000", "test"),
    "another account": ("123456789012", "123456789012"),
    "none": (" ", "test"),
    "of AWS's documentation": ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    "root's id": (None, "test"),
    "root's secret": ("test", None),
    "root's secret, an account": ("000000000000", None),
}


@pytest.mark.parametrize(("access_key", "secret_key"), KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("sign", [SigV4QueryAuth, SigV4Auth], ids=["presigned", "header"])
def test_no_other_key_opens_anything(cloud, access_key, secret_key, sign):
    before = roles(cloud)
    own = cloud.root_keys
    keys = (access_key or own["aws_access_key_id"], secret_key or own["aws_secret_access_key"])
    path, headers, form = create_role(cloud, "door-key", keys, sign)
    headers = [line for line in headers if not line.lower().startswith("content-length")]
    answer = ask(cloud, "POST", path, headers, b"" if sign is SigV4QueryAuth else form)
    assert status(answer) in (400, 401, 403), answer
    assert roles(cloud) == before


@pytest.mark.parametrize(
    "service", ["sqs", "lambda", "dynamodb", "logs", "iam", "sts", "ssm", "ec2", "monitoring", "s3", "execute-api", "sns"]
)
# The last three MiniStack answers to anybody.
@pytest.mark.parametrize("path", ["/", "/2015-03-31/functions", "/?Action=GetCallerIdentity", "/health", "/v2/", "/oauth2/token"])
def test_what_a_signature_is_made_for_opens_nothing_without_its_secret(cloud, service, path):
    request = AWSRequest("POST", f"{cloud.endpoint}{path}", {"Content-Type": "application/x-amz-json-1.1"}, "{}")
    SigV4Auth(Credentials(cloud.root_keys["aws_access_key_id"], "test"), service, REGION).add_auth(request)
    lines = [f"{name}: {value}" for name, value in request.headers.items()]
    answer = ask(cloud, "POST", path, lines, b"{}")
    assert status(answer) in (400, 401, 403)
    assert re.search(rb"[Ss]ignature|AuthFailure", answer), answer


def test_a_functions_session_cannot_be_derived_from_its_name(cloud):
    function, role = "arn:aws:lambda:us-east-1:000000000000:function:f", "arn:aws:iam::000000000000:role/r"
    digest = hashlib.sha256(f"{function}:{role}".encode()).hexdigest()
    keys = f"ASIA{digest[:16].upper()}", hashlib.sha256(f"secret:{digest}".encode()).hexdigest()
    token = hashlib.sha256(f"token:{digest}".encode()).hexdigest()
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    source = f"import os\ndef handler(event, context):\n    return [os.environ[name] for name in {names}]\n"
    make_function(cloud, make_role(cloud, name="r"), FunctionName="f", Code={"ZipFile": package(source=source)})
    seen = json.load(cloud.client("lambda").invoke(FunctionName="f", Payload=b"{}")["Payload"])
    assert cloud.client("sts", *seen).get_caller_identity()["Arn"].endswith(":assumed-role/r/f")
    with pytest.raises(ClientError, match="security token"):
        cloud.client("sts", *keys, token).get_caller_identity()


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def connection(request) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection: the client's, of either family, and the server's."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(request.param) as client:
        client.connect(("::ffff:127.0.0.1" if request.param == socket.AF_INET6 else "127.0.0.1", listener.getsockname()[1]))
        with listener.accept()[0] as server:
            yield client, server


def test_the_user_of_a_connection_is_known_while_it_is_open(connection):
    _client, server = connection
    assert user_of(server.getpeername(), server.getsockname()) == os.getuid()


def test_a_closed_connection_is_nobodys(connection):
    # The kernel shows root as its owner, which must not let anybody in.
    client, server = connection
    peer = server.getpeername()
    client.close()
    assert user_of(peer, server.getsockname()) is None
    assert user_of(("127.0.0.1", 1), server.getsockname()) is None


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("guests", [False, True], ids=["own user", "guests"])
def test_a_cloud_of_another_user_answers_us_as_a_guest_or_not_at_all(connection, path, guests):
    _client, server = connection
    answered = []

    async def inside(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        answered.append(message.get("status"))

    port = server.getsockname()[1]
    door = Door(inside, port, os.getuid() + 1, guests, ("/_embedded_cloud/",))
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "headers": [(b"host", b"127.0.0.1:%d" % port)]}
    asyncio.run(door(scope | {"client": server.getpeername(), "server": server.getsockname()}, None, send))
    assert answered[0] == (200 if guests and not path.startswith("/_embedded_cloud/") else 403)


ASK_AS = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
with socket.socket() as connection:
    connection.connect(("127.0.0.1", int(sys.argv[2])))
    connection.sendall(sys.stdin.buffer.read())
    sys.stdout.buffer.write(connection.recv(65536))
"""


def ask_as(user: int, cloud, path: str, lines: list[str]) -> int:
    """The status of a request that a user of this machine makes."""
    text = "\r\n".join([f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{cloud.port}", *lines, "", ""])
    command = [sys.executable, "-c", ASK_AS, str(user), str(cloud.port)]
    return status(subprocess.run(command, input=text.encode(), capture_output=True, check=True, timeout=30).stdout)


def test_roots_key_opens_the_cloud_to_its_own_user_alone(cloud):
    # Only root can ask as somebody else; any other user asks as itself, and is let in.
    asking = NOBODY if os.getuid() == 0 else os.getuid()
    signed, headers, _form = create_role(cloud, "door-user")
    assert (ask_as(asking, cloud, signed, headers) == 200, "door-user" in roles(cloud)) == (asking == os.getuid(),) * 2
    assert ask_as(asking, cloud, "/_embedded_cloud/nothing", ["Content-Length: 0"]) == (405 if asking == os.getuid() else 403)

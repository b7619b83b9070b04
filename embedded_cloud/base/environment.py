"""The environment both emulators read when they are imported, and that function workers inherit."""

import os
from collections.abc import Mapping

from embedded_cloud.base.root_key import RootKey

# All that is taken over from whoever starts the cloud: enough to run a Python, and nothing that could send a function's calls, or
# the emulators' own, anywhere else (endpoints, profiles, proxies, credentials, Python paths).
INHERITED = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")


def emulator_environment(port: int, account: str, region: str, key: RootKey, inherited: Mapping[str, str]) -> dict[str, str]:
    """The complete environment of the cloud's process.

    `port` is where it listens, `account` its twelve digits, `key` its root's, `inherited` the environment of whoever starts it, of
    which only the variables of INHERITED are kept.
    """
    return {name: inherited[name] for name in INHERITED if name in inherited} | {
        # MiniStack
        "AUTH": "true",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",
        "LAMBDA_EXECUTOR": "local",
        "LOG_LEVEL": "WARNING",
        "MINISTACK_ACCOUNT_ID": account,
        "MINISTACK_HOST": "127.0.0.1",
        "MINISTACK_REGION": region,
        "PERSIST_STATE": "0",
        "S3_PERSIST": "0",
        "SFTP_ENABLED": "0",
        # moto
        "MOTO_ACCOUNT_ID": account,
        "MOTO_DISABLE_GLOBAL_CORS": "true",
        # both, and every AWS client made in this process or in a function
        "AWS_ACCESS_KEY_ID": key.access_key,
        "AWS_SECRET_ACCESS_KEY": key.secret_key,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
        # Docker is never asked for anything, should there be one.
        "DOCKER_HOST": "unix:///nonexistent/docker.sock",
        # As in AWS Lambda.
        "LANG": "en_US.UTF-8",
        "PYTHONUTF8": "1",
        "TZ": ":UTC",
    }


def prepare(port: int, account: str, region: str, key: RootKey) -> None:
    """Replace this process's environment. Must run before MiniStack or moto is imported: both read it then."""
    wanted = emulator_environment(port, account, region, key, dict(os.environ))
    os.environ.clear()
    os.environ.update(wanted)

"""The environment variables that both emulators read when they are imported, and that function workers inherit."""

import os

from embedded_cloud.base.root_key import RootKey

# Only these are kept from whoever starts the cloud: enough to run Python, and nothing that could send the calls of a function or of an
# emulator anywhere else (endpoints, profiles, proxies, credentials, Python paths).
INHERITED = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")


def prepare(port: int, account: str, region: str, key: RootKey) -> None:
    """Replace this process's environment. This must run before MiniStack or moto is imported: both read it then.

    `port` is where the cloud listens, `account` its twelve digits, `key` that of its root.
    """
    wanted = {name: os.environ[name] for name in INHERITED if name in os.environ} | {
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
    os.environ.clear()
    os.environ.update(wanted)

"""The producer's SQS client, with the credentials of the instance, and its errors in words."""

import os
import re
from typing import Any

from botocore.config import Config
from botocore.credentials import CredentialResolver, InstanceMetadataProvider
from botocore.exceptions import ClientError, NoCredentialsError
from botocore.session import Session
from botocore.utils import METADATA_BASE_URL, InstanceMetadataFetcher
from producer_settings import Settings

CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS, REQUEST_SECONDS = 2, 5, 7  # of one request


class SendError(Exception):
    """Why a request failed, and what to do; `refused`: a retry does not help until somebody changes something."""

    def __init__(self, code: str, detail: str, what_to_do: str, refused: bool) -> None:
        self.code, self.detail, self.what_to_do, self.refused = code, detail, what_to_do, refused


# Error codes (without prefix) that only a person can mend, what they mean, and what to do
REFUSALS = (
    ("NoCredentialsError CredentialRetrievalError MetadataRetrievalError InvalidIMDSEndpointError", "no credentials from instance metadata",
     "attach an instance profile with a role to the instance, allow IMDSv2, and check AWS_EC2_METADATA_SERVICE_ENDPOINT"),
    ("NonExistentQueue QueueDoesNotExist", "no such queue", "create the queue, or correct --queue-url (name, account, region)"),
    ("AccessDenied AccessDeniedException KmsAccessDenied UnauthorizedOperation", "no permission",
     "allow the instance's role sqs:SendMessage on this queue (and the use of its KMS key, if it has one)"),
    ("ExpiredToken ExpiredTokenException IncompleteSignature InvalidAccessKeyId InvalidClientTokenId InvalidSecurity"
     " InvalidSignatureException MissingAuthenticationToken RequestExpired SignatureDoesNotMatch UnrecognizedClientException",
     "credentials not accepted", "check that the instance's role still exists, the clock is right and --region is the queue's region"),
)  # fmt: skip


def plain(text: object) -> str:
    """The first line of a text from outside, cut, without anything as long as a secret key or a session token."""
    line = str(text).partition("\n")[0].partition("Canonical String")[0]
    return re.sub(r"[A-Za-z0-9/+=%]{40,}", "***", line)[:300]


def explain(error: Exception, settings: Settings) -> SendError:
    """Put an exception of botocore into words, with what to do about it."""
    code, detail, status = type(error).__name__, plain(error), 0
    if isinstance(error, ClientError):
        code = re.split(r"[.#]", error.response["Error"].get("Code", "Unknown"))[-1]
        detail = plain(error.response["Error"].get("Message", ""))
        status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
    where = f"{settings.queue_url} in {settings.region}"
    for codes, meaning, what_to_do in REFUSALS:
        if code in codes.split():
            return SendError(code, f"{meaning}: {where}: {detail}", what_to_do, refused=True)
    if 400 <= status < 500 and status not in (408, 429) and not re.search("Throttl|Limit", code):
        return SendError(code, f"request refused: {where}: {detail}", "check that --queue-url is the URL of an SQS queue", refused=True)
    return SendError(code, f"{where}: {detail}", "if it lasts, check the network, the endpoint and the quotas", refused=False)


def connect(settings: Settings) -> Any:
    """An SQS client whose credentials come only from instance metadata, and are refreshed before they expire.

    The session ignores AWS_* variables (except AWS_CA_BUNDLE) and ~/.aws. Raises NoCredentialsError or another BotoCoreError.
    """
    variables: dict[str, Any] = {name: (None, None, *rest) for name, (_, _, *rest) in Session.SESSION_VARIABLES.items()}
    variables |= dict.fromkeys(("config_file", "credentials_file"), (None, None, os.devnull, None))
    variables["ca_bundle"] = (None, "AWS_CA_BUNDLE", None, None)
    session = Session(session_vars=variables)
    metadata = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or METADATA_BASE_URL
    fetcher = InstanceMetadataFetcher(timeout=1, num_attempts=3, base_url=metadata, env={}, config={"ec2_metadata_v1_disabled": True})
    session.register_component("credential_provider", CredentialResolver([InstanceMetadataProvider(fetcher)]))
    if session.get_credentials() is None:
        raise NoCredentialsError()
    retries = {"total_max_attempts": 1, "mode": "standard"}  # the producer itself retries, and can be stopped meanwhile
    config = Config(connect_timeout=CONNECT_TIMEOUT_SECONDS, read_timeout=READ_TIMEOUT_SECONDS, retries=retries)
    endpoint = settings.queue_url.rsplit("/", 2)[0]  # scheme, host and port
    return session.create_client("sqs", region_name=settings.region, endpoint_url=endpoint, config=config)

"""Versions and aliases as Lambda keeps them, where MiniStack does otherwise.

- `Publish` at CreateFunction and UpdateFunctionCode "has the same effect as calling PublishVersion separately" (UpdateFunctionCode, Lambda
  API reference): it makes nothing new when nothing changed, and the version's ARN has its number.
- A version that was just published is Pending for a while ("Lambda function states").
- A mapping's invocations are split by the weights of its alias ("Implement Lambda canary deployments using a weighted alias"), and the
  function is told the ARN that the mapping has.
- Reserved concurrency is the function's own: all its versions share it ("Configuring reserved concurrency for a function").
- ListEventSourceMappings with a function's plain name lists what invokes the plain name, and with an alias what invokes that alias. AWS's
  documentation does not say so; this is the narrower reading, so that nobody relies on the wider one.
"""

import json
import random
from collections.abc import Callable
from typing import Any

from ministack.core.responses import json_response
from ministack.services import lambda_svc

from embedded_cloud.services.lambda_.version_rules import LATEST

Answer = tuple[int, dict[str, str], bytes]


def install() -> None:
    """Replace what MiniStack looks up at each call."""
    lambda_svc._publish_version = _pending_at_first(lambda_svc._publish_version)
    lambda_svc._create_function = _published_as_any_version(lambda_svc._create_function)
    lambda_svc._update_code = _published_as_any_version(lambda_svc._update_code)
    lambda_svc._run_sqs_batch = _by_weight(lambda_svc._run_sqs_batch)
    lambda_svc._reserved_concurrency = _of_the_function(lambda_svc._reserved_concurrency)
    lambda_svc._list_esms = _of_one_qualifier(lambda_svc._list_esms)


def _pending_at_first(original: Callable[[str, dict[str, Any]], Answer]) -> Callable[[str, dict[str, Any]], Answer]:
    def publish(name: str, data: dict[str, Any]) -> Answer:
        known = set((lambda_svc._functions.get(name) or {}).get("versions", ()))
        answer = original(name, data)
        version = json.loads(answer[2]).get("Version")
        if answer[0] >= 300 or version in known:
            return answer
        config = lambda_svc._functions[name]["versions"][version]["config"]
        config |= {"State": "Pending", "StateReason": "The function is being created.", "StateReasonCode": "Creating"}
        answer = json_response(config, answer[0])
        lambda_svc._schedule_state_transition(name, lambda_svc._LAMBDA_STATE_TRANSITION_DELAY)
        return answer

    return publish


def _published_as_any_version(original: Callable[..., Answer]) -> Callable[..., Answer]:
    def change(*arguments: Any) -> Answer:
        *names, data = arguments
        answer = original(*names, data | {"Publish": False})
        if not data.get("Publish") or answer[0] >= 300:
            return answer
        function = json.loads(answer[2])
        published = lambda_svc._publish_version(function["FunctionName"], {})
        return json_response(function | {"Version": json.loads(published[2])["Version"]}, answer[0])

    return change


def _by_weight(original: Callable[..., None]) -> Callable[..., None]:
    def run(mapping: dict[str, Any], record: dict[str, Any], *batch: Any) -> None:
        function = lambda_svc._functions.get(mapping["FunctionName"])
        alias = function["aliases"].get(mapping.get("Qualifier"), {}) if function else {}
        weights = (alias.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
        drawn = random.random()
        for version, weight in weights.items():
            if drawn < weight and function and version in function["versions"]:
                record = function["versions"][version]
        told = record | {"config": record["config"] | {"FunctionArn": mapping["FunctionArn"]}}
        original(mapping, told, *batch)

    return run


def _of_the_function(original: Callable[..., int | None]) -> Callable[..., int | None]:
    def reserved(record: dict[str, Any], config: dict[str, Any]) -> int | None:
        function = lambda_svc._functions.get(config.get("FunctionName", ""))
        return original(function or record, config)

    return reserved


def _of_one_qualifier(original: Callable[[dict[str, Any]], Answer]) -> Callable[[dict[str, Any]], Answer]:
    def list_mappings(query: dict[str, Any]) -> Answer:
        answer = original(query)
        asked = lambda_svc._qp_first(query, "FunctionName")
        if not asked:
            return answer
        wanted, listed = _qualifier(asked), json.loads(answer[2])
        mappings = listed["EventSourceMappings"]
        listed["EventSourceMappings"] = [mapping for mapping in mappings if _qualifier(mapping["FunctionArn"]) == wanted]
        return json_response(listed, answer[0])

    return list_mappings


def _qualifier(function: str) -> str:
    """What follows a function's name: nothing for $LATEST, which is what the plain name invokes."""
    found = lambda_svc._resolve_name_and_qualifier(function)[1]
    return "" if found in (None, LATEST) else str(found)

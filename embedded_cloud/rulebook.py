"""Asks the rules about every call after it was authenticated and authorised, before an emulator acts on it. MiniStack's calls are met in
its table of services, those about queues in SQS's table of actions, where both protocols have become one. The router asks about the calls
that go to moto."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qs, unquote

from ministack import app as ministack_app
from ministack.services import sqs

from embedded_cloud.base.calls import Call
from embedded_cloud.base.messages import Request, Response, json_object
from embedded_cloud.base.ministack_backend import Answer
from embedded_cloud.base.patching import Patch, wrap
from embedded_cloud.base.rules import Note, Refusal, Rewrite, Rule, RuleContext
from embedded_cloud.iam import authorization
from embedded_cloud.services.lambda_ import rules as lambda_rules

_SERVICES = ("lambda", "dynamodb", "iam", "sts")


@dataclass(frozen=True)
class Rulebook:
    """`rules`, `notes` and `rewrites` are by "<service of the signature>:<action>"."""

    rules: Mapping[str, tuple[Rule, ...]]
    notes: Mapping[str, Note]
    rewrites: Mapping[str, Rewrite]
    context: RuleContext

    def patches(self) -> list[Patch]:
        queue_actions = [name.removeprefix("sqs:") for name in {*self.rules, *self.notes} if name.startswith("sqs:")]
        return [
            *(wrap(ministack_app.SERVICE_HANDLERS, service, partial(self._handle, service)) for service in _SERVICES),
            *(wrap(sqs._HANDLERS, action, partial(self._handle_queue, action)) for action in queue_actions),
            wrap(sqs, "_act_send_message", partial(self._handle_queue, "SendMessage")),
        ]

    async def refusal(self, request: Request, call: Call) -> Response | None:
        """AWS's refusal of a call that moto would carry out."""
        refused = await self.context.moto.run(lambda: self._first_refusal(call))
        return authorization.error(request.headers, call.service, *refused) if refused else None

    async def succeeded(self, call: Call, response: Response) -> None:
        """moto carried out a call."""
        if response.status < 300:
            await self.context.moto.run(lambda: self._note(call, response.body))

    async def _handle(self, service: str, original: Callable[..., Any], *request: Any) -> Answer:
        call = self._read_call(service, *request)
        if refused := self._first_refusal(call):
            _method, _path, headers, _body, _query = request
            return authorization.error(headers, service, *refused)
        answer: Answer = await original(*request)
        if 200 <= answer[0] < 300:
            self._note(call, answer[2])
        rewrite = self.rewrites.get(call.name)
        return rewrite(call, answer, self.context) if rewrite else answer

    def _handle_queue(self, action: str, original: Callable[..., Any], data: dict[str, Any], url: str) -> Any:
        call = Call("sqs", action, data | {"QueueUrl": data.get("QueueUrl") or url})
        if refused := self._first_refusal(call):
            raise sqs._Err(*refused)
        answer = original(data, url)
        self._note(call, b"")
        return answer

    def _first_refusal(self, call: Call) -> Refusal | None:
        return next((refused for rule in self.rules.get(call.name, ()) if (refused := rule(call, self.context))), None)

    def _note(self, call: Call, answer: bytes) -> None:
        if call.name in self.notes:
            self.notes[call.name](call, answer, self.context)

    def _read_call(self, service: str, method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]) -> Call:
        """The call as its service reads it. A body that nobody asks about is not parsed: batches are large."""
        if service == "lambda":
            return lambda_rules.read_call(method, unquote(path), query, body)
        action = headers.get("x-amz-target", "").rpartition(".")[2]
        if action:
            is_asked_about = f"{service}:{action}" in self.rules or f"{service}:{action}" in self.rewrites
            return Call(service, action, json_object(body) if is_asked_about else {})
        form = {**query, **parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True)}
        return Call(service, form.get("Action", [""])[0], form)

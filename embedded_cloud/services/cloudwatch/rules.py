"""Dashboards: what CloudWatch refuses."""

import json

from embedded_cloud.base.calls import Call
from embedded_cloud.base.rules import Refusal, Rule, RuleContext


def dashboard_is_no_json(call: Call, context: RuleContext) -> Refusal | None:
    """Amazon CloudWatch API Reference, PutDashboard: DashboardBody is "in JSON format", or InvalidParameterInput;
    "Dashboard Body Structure and Syntax": it is one object."""
    try:
        body = json.loads(call.value("DashboardBody"))
    except ValueError:
        body = None
    if isinstance(body, dict):
        return None
    return Refusal("InvalidParameterInput", "The field DashboardBody must be a valid JSON object")


RULES: dict[str, tuple[Rule, ...]] = {"monitoring:PutDashboard": (dashboard_is_no_json,)}

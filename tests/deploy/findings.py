"""All that is wrong with the objects of an overlay."""

from __future__ import annotations

from tests.deploy import job_rules, lint, serving_rules
from tests.deploy.rendering import Object


def findings(objects: list[Object]) -> list[str]:
    """Return what every rule finds in objects that are applied together; empty if nothing is wrong."""
    rules = (*lint.RULES, *serving_rules.RULES, *job_rules.RULES)
    return [finding for rule in rules for finding in rule(objects)]

"""Policies of billing by name: who gets credit, at which price, and what happens to the base (docs/billing.md)."""

from utility.billing.policies import aces, rangers, spec
from utility.billing.policies.policy import Policy

POLICIES: dict[str, Policy] = {policy.name: policy for policy in (spec.POLICY, aces.POLICY, rangers.POLICY)}
"""The policies by name."""

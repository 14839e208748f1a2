"""The usual names of tensors: which part in a check a member or a file plays by what it is called."""

from __future__ import annotations

USUAL = {
    "logits": ("logits",),
    "labels": ("labels", "label", "targets", "target", "y"),
    "grad": ("grad", "dlogits", "logits_grad", "grad_logits"),
    "probs": ("probs",),
    "log-probs": ("log_probs", "logprobs"),
    "loss": ("loss",),
    "grad-probs": ("grad_probs", "probs_grad", "dprobs"),
    "upstream": ("upstream",),
    "class-weights": ("class_weights",),
    "inputs": ("inputs",),
    "weight": ("weight",),
    "bias": ("bias",),
    "grad-weight": ("grad_weight", "weight_grad", "dweight"),
    "grad-bias": ("grad_bias", "bias_grad", "dbias"),
    "grad-inputs": ("grad_inputs", "inputs_grad", "dinputs"),
    "jacobian": ("jacobian",),
}
"""By role, what exporters call it; capitals do not count, and - is as good as _."""

_ROLES = {name: role for role, names in USUAL.items() for name in names}
_ENDS = [(name, "_" + name) for name in sorted(_ROLES, key=len, reverse=True)]  # logits_grad before grad


def role_of(name: str) -> str | None:
    """Return the role of which this is a usual name, if there is one."""
    return _ROLES.get(name.lower().replace("-", "_"))


def split(name: str) -> tuple[str, str] | None:
    """Return stem and role of a name that ends in a usual one: ``step12_logits``, ``step12.logits``."""
    plain = name.lower().replace("-", "_").replace(".", "_")
    for usual, end in _ENDS:
        if plain.endswith(end):
            return name[: -len(end)], _ROLES[usual]
        if plain == usual:
            return "", _ROLES[usual]
    return None

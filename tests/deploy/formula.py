"""What KEDA and the HPA make of a ScaledObject: its formula over two counts, as a number of pods."""

import ast
import math
import operator
from typing import Any

_OPERATORS: dict[type[ast.operator], Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def evaluate(formula: str, counts: dict[str, float]) -> float:
    """Return the value of an arithmetic formula over trigger names.

    Raises:
        ValueError: it holds something else than numbers, names of triggers and ``+ - * /``.
    """
    return _value(ast.parse(formula, mode="eval").body, counts)


def replicas(spec: dict[str, Any], counts: dict[str, float]) -> int:
    """Return how many pods a ScaledObject's spec asks for when nothing else holds it back.

    KEDA decides between none and one by the activation target, the HPA above that: an AverageValue asks for
    the value divided by the target, rounded up.
    """
    modifiers = spec["advanced"]["scalingModifiers"]
    value = evaluate(modifiers["formula"], counts)
    if spec["minReplicaCount"] == 0 and value <= float(modifiers["activationTarget"]):
        return 0
    wanted = math.ceil(value / float(modifiers["target"]))
    return min(max(wanted, 1, spec["minReplicaCount"]), spec["maxReplicaCount"])


def _value(node: ast.expr, counts: dict[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name) if name in counts:
            return counts[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return float(_OPERATORS[type(op)](_value(left, counts), _value(right, counts)))
    raise ValueError(f"not arithmetic over {sorted(counts)}: {ast.unparse(node)}")

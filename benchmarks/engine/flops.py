"""What a text costs a BERT-like encoder in floating point operations. Pure."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a model, as its config.json names them."""

    layers: int
    hidden: int
    intermediate: int

    @classmethod
    def of(cls, config: Path) -> Self:
        """Read a model's config.json."""
        sizes = json.loads(config.read_text("utf-8"))
        return cls(sizes["num_hidden_layers"], sizes["hidden_size"], sizes["intermediate_size"])

    def flops(self, tokens: int) -> float:
        """Return the operations of one row, a multiplication with its addition being two.

        A layer has four square products (queries, keys, values, output) and two with the intermediate size;
        attention adds two products of `tokens` by `tokens`. Softmax, GELU and norms are not counted.
        """
        products = 2 * (4 * self.hidden**2 + 2 * self.hidden * self.intermediate)
        attention = 4 * self.hidden * tokens
        return float(self.layers * tokens * (products + attention))

"""Texts of any length in one forward pass, without padding.

Rule: a text sees itself alone, at its own positions, so it gets what a pass of its own would give
it; and a pass costs what its tokens cost, however unlike in length its texts are.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

__all__ = ["can_pack", "hidden_states", "pack"]

_EACH_ALONE = "reference_app_each_alone"


def can_pack(model: Any) -> bool:
    """Say whether positions are all that keeps a model's tokens apart, besides attention."""
    return bool(model.config.model_type == "distilbert")  # Others count positions differently.


def pack(model: Any) -> None:
    """Have a model take packed texts, and no others, from now on."""
    model.set_attn_implementation(_EACH_ALONE)


def hidden_states(model: Any, rows: Sequence[Sequence[int]]) -> Sequence[torch.Tensor]:
    """Return the encoder's last hidden states, token by dimension, of each row of token ids."""
    lengths = [len(row) for row in rows]
    ids = torch.tensor([list(chain.from_iterable(rows))], device=model.device)
    positions = torch.tensor([list(chain(*map(range, lengths)))], device=model.device)
    encoded = model.base_model(input_ids=ids, position_ids=positions, lengths=lengths)
    states: Sequence[torch.Tensor] = encoded.last_hidden_state[0].split(lengths)
    return states


def _attend_each_alone(  # What AttentionInterface asks for.
    _module: Any,
    query: Any,
    key: Any,
    value: Any,
    _mask: None,
    *,
    lengths: list[int],
    scaling: float,
    **_options: object,
) -> tuple[torch.Tensor, None]:
    # One call for each text: a single one with a mask costs the square of all tokens together.
    rows = zip(*(each.split(lengths, dim=2) for each in (query, key, value)), strict=True)
    seen = [scaled_dot_product_attention(q, k, v, scale=scaling) for q, k, v in rows]
    return torch.cat(seen, dim=2).transpose(1, 2), None


_interface: Any = AttentionInterface  # Its register lacks types.
_interface.register(_EACH_ALONE, _attend_each_alone)

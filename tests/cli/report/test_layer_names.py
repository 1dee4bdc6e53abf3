"""Names of tensors tell the layer and the kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zipfs.cli.report.layer_names import LayerName, name_layers


def numbered(pattern: str, count: int) -> list[str]:
    return [pattern.format(number) for number in range(count)]


@pytest.mark.parametrize(
    ("names", "part"),
    [
        (numbered("model.layers.{}.self_attn.q_proj.weight", 4), LayerName("model.layers", 3, "self_attn.q_proj")),
        (numbered("h.{}.attn.c_attn.bias", 4), LayerName("h", 3, "attn.c_attn.bias")),
        (
            numbered("0.auto_model.encoder.layer.{}.output.weight", 4),
            LayerName("0.auto_model.encoder.layer", 3, "output"),
        ),
        (numbered("layers.{}.experts.7.w1.weight", 4), LayerName("layers", 3, "experts.*.w1")),
        (numbered("blocks.{}", 4), LayerName("blocks", 3, "")),
        (numbered("down.{}.resnets.1.conv.weight", 4), LayerName("down", 3, "resnets.*.conv")),
        (["layers.0.w.weight", "model.norm.weight"], LayerName(None, 0, "model.norm")),
        (["weight"], LayerName(None, 0, "weight")),
        (["layers.0.mlp.weight"], LayerName(None, 0, "layers.*.mlp")),
        ([*numbered("a.{}.b", 2), "a.9999999.b"], LayerName(None, 0, "a.9999999.b")),
    ],
)
def test_parts(names: list[str], part: LayerName) -> None:
    assert name_layers(names)[-1] == part


def test_layers_of_several_stacks_are_told_apart() -> None:
    parts = name_layers([*numbered("encoder.layers.{}.w", 2), *numbered("decoder.layers.{}.w", 2)])
    assert [(part.stack, part.layer) for part in parts] == [
        ("encoder.layers", 0),
        ("encoder.layers", 1),
        ("decoder.layers", 0),
        ("decoder.layers", 1),
    ]


@given(st.lists(st.text(alphabet=".0123456789ab²٣\x00<", max_size=30)))
def test_every_name_has_a_part(names: list[str]) -> None:
    parts = name_layers(names)
    assert len(parts) == len(names)
    assert all(0 <= part.layer < 10**6 for part in parts)


def test_a_name_of_many_parts_costs_no_time() -> None:
    (one, other) = name_layers([".".join(["1"] * 30_000), ".".join(["2"] * 30_000)])
    assert one.stack is None
    assert other.stack is None

"""A tiny published GAN with a class condition: items of two numbers, two latents, three classes.

Its generator gives 2 z + 1 plus the shift of the class, and its discriminator's logit is the sum of an item
less that of the class's shift; both are known without any engine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from service.format.manifest import DiscriminatorSpec
from service.format.versions import stage
from tests.handmade import Shape, publish_graphs, write_graph

CLASSES = ("sneaker", "bag", "7")
SHIFTS = np.array([[0, 0], [10, 20], [-30, 5]], np.float32)


def publish_conditional(models: Path, name: str = "classes-gan") -> Path:
    """Publishes the toy."""
    staging = stage(models, name)
    labels: dict[str, Shape] = {"labels": ("rows", len(CLASSES))}
    items: Shape = ("rows", 2)
    constants: dict[str, Any] = {
        "two": np.float32(2), "one": np.float32(1), "shifts": SHIFTS, "ones": np.ones((2, 1), np.float32),
        "axis": np.array([1]),
    }  # fmt: skip
    decode = [
        helper.make_node("Mul", ["latents", "two"], ["scaled"]),
        helper.make_node("Add", ["scaled", "one"], ["plain"]),
        helper.make_node("MatMul", ["labels", "shifts"], ["shift"]),
        helper.make_node("Add", ["plain", "shift"], ["samples"]),
    ]
    judge = [
        helper.make_node("MatMul", ["labels", "shifts"], ["shift"]),
        helper.make_node("Sub", ["inputs", "shift"], ["gap"]),
        helper.make_node("MatMul", ["gap", "ones"], ["column"]),
        helper.make_node("Squeeze", ["column", "axis"], ["logit"]),
    ]
    graphs: Any = {
        "decode": write_graph(
            staging, "decode", decode, constants, {"latents": items} | labels, {"samples": items}
        ),
        "discriminate": write_graph(
            staging, "discriminate", judge, constants, {"inputs": items} | labels, {"logit": ("rows",)}
        ),
    }
    return publish_graphs(
        staging, name, graphs, family="gan", description="A toy with three classes.", item_shape=(2,),
        support="real", value_range=None, latent_size=2, prior="standard_normal", likelihood=None,
        class_names=CLASSES, discriminator=DiscriminatorSpec(objective="non-saturating"),
        view=((-40.0, 30.0), (-20.0, 40.0)),
    )  # fmt: skip

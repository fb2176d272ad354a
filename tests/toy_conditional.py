"""Two tiny published models with a class condition, whose every answer is known without any engine.

The generator of a GAN of two numbers gives 2 z + 1 plus the shift of the class, and its discriminator's logit
is the sum of an item less that of the class's shift. A VAE of 2 x 2 binary items is `tests.toy` for items in
which the pixels of the class's mask are turned over.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from service.format.specs import DiscriminatorSpec, LogitsSpec
from service.format.versions import sha256_of, stage
from tests.handmade import (
    CALIBRATION_ITEMS,
    Shape,
    publish_graphs,
    publish_version,
    write_graph,
    write_vae_graphs,
)
from tests.toy import ITEM, LATENT, Floats, items, toy_constants, toy_nodes

CLASSES = ("sneaker", "bag", "7")
MASKS: Floats = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 0, 1]], np.float32)
REAL_LOGITS = 100
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
    both = [
        *decode,
        helper.make_node("MatMul", ["plain", "ones"], ["column"]),
        helper.make_node("Squeeze", ["column", "axis"], ["logit"]),
    ]
    real = np.random.default_rng(0).normal(4, 2, REAL_LOGITS).astype(np.float32)
    np.savez(staging / "logits.npz", real=real, labels=np.arange(REAL_LOGITS) % len(CLASSES))
    logits = LogitsSpec(
        file="logits.npz", sha256=sha256_of(staging / "logits.npz"), n=REAL_LOGITS, largest=8.0
    )
    graphs: Any = {
        "decode": write_graph(
            staging, "decode", decode, constants, {"latents": items} | labels, {"samples": items}
        ),
        "discriminate": write_graph(
            staging, "discriminate", judge, constants, {"inputs": items} | labels, {"logit": ("rows",)}
        ),
        "generate_scored": write_graph(
            staging,
            "generate_scored",
            both,
            constants,
            {"latents": items} | labels,
            {"samples": items, "logit": ("rows",)},
        ),
    }
    return publish_graphs(
        staging, name, graphs, family="gan", description="A toy with three classes.", item_shape=(2,),
        support="real", value_range=None, latent_size=2, prior="standard_normal", likelihood=None,
        class_names=CLASSES, discriminator=DiscriminatorSpec(objective="non-saturating", logits=logits),
        view=((-40.0, 30.0), (-20.0, 40.0)),
    )  # fmt: skip


def turned(items: Floats, labels: np.ndarray) -> Floats:
    """Items (B, 1, 2, 2) with the pixels of their classes' masks turned over; twice is not at all."""
    turned: Floats = np.abs(items - MASKS[labels].reshape(-1, *ITEM))
    return turned


def publish_conditional_vae(models: Path, name: str = "classes-vae") -> Path:
    """Publishes the VAE; its calibration items have the classes in turn."""
    staging, classes = stage(models, name), len(CLASSES)
    constants = toy_constants() | {"masks": MASKS}
    nodes = {graph: _turning(made) for graph, made in toy_nodes().items()}
    labels = np.arange(CALIBRATION_ITEMS) % classes
    return publish_version(
        staging, name, write_vae_graphs(staging, nodes, constants, ITEM, LATENT, classes),
        turned(items(CALIBRATION_ITEMS, seed=1), labels), np.eye(classes, dtype=np.float32)[labels],
        description="A toy with three classes and exact evidence.", item_shape=ITEM, support="binary",
        value_range=(0.0, 1.0), latent_size=LATENT, prior="standard_normal", likelihood="bernoulli",
        class_names=CLASSES,
    )  # fmt: skip


def _turning(nodes: list[Any]) -> list[Any]:
    """The nodes of a graph that turns its items over before them, or its samples after them."""
    mask = [
        helper.make_node("MatMul", ["labels", "masks"], ["flat_mask"]),
        helper.make_node("Reshape", ["flat_mask", "item"], ["mask"]),
    ]
    before, after = _turned_over("inputs", "turned_inputs"), _turned_over("plain_samples", "samples")
    takes = any("inputs" in node.input for node in nodes)
    gives = any("samples" in node.output for node in nodes)
    for node in nodes:
        node.input[:] = ["turned_inputs" if each == "inputs" else each for each in node.input]
        node.output[:] = ["plain_samples" if each == "samples" else each for each in node.output]
    return [*mask, *(before if takes else []), *nodes, *(after if gives else [])]


def _turned_over(given: str, result: str) -> list[Any]:
    return [
        helper.make_node("Sub", [given, "mask"], [f"{result}_gap"]),
        helper.make_node("Abs", [f"{result}_gap"], [result]),
    ]

"""The signed int8 graph in TensorRT, whose only int8 route are pairs of Quantize and Dequantize; needs it and a GPU."""

from __future__ import annotations

import pytest
import torch

from kd.compress.context import Context, Model
from kd.compress.quantise import StaticInt8
from kd.compress.rows import hidden
from kd.evaluate.predictor import LOGITS, PRESENT, OnnxPredictor
from kd.types import Batch
from tests.compress.conftest import Stages

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="TensorRT needs a GPU")


def built(graph: Model, rows: int):  # type: ignore[no-untyped-def]
    """Return the engine of a graph, for up to so many rows."""
    trt = pytest.importorskip("tensorrt")
    log = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(log)
    # The types of a graph with pairs are all in the graph.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    assert parser.parse(graph.SerializeToString()), [str(parser.get_error(i)) for i in range(parser.num_errors)]
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    for place in range(network.num_inputs):
        own = network.get_input(place)
        shape = tuple(own.shape)[1:]
        profile.set_shape(own.name, (1, *shape), (rows, *shape), (rows, *shape))
    config.add_optimization_profile(profile)
    return trt.Runtime(log).deserialize_cuda_engine(builder.build_serialized_network(network, config))


def test_signed_graph_builds_and_agrees(stages: Stages, context: Context, unseen: Batch) -> None:
    graph, _ = StaticInt8(activations="signed", embeddings=False)(stages[0]["onnx"].model, context)
    engine = built(graph, len(unseen))
    names = list(unseen.inputs)
    feed = {**hidden(unseen, names, unseen.present), PRESENT: unseen.present}
    given = {name: torch.nan_to_num(value).cuda().contiguous() for name, value in feed.items()}
    logits = torch.empty(len(unseen), 4, device="cuda")
    running = engine.create_execution_context()
    for name, value in given.items():
        running.set_input_shape(name, tuple(value.shape))
        running.set_tensor_address(name, value.data_ptr())
    running.set_tensor_address(LOGITS, logits.data_ptr())
    assert running.execute_async_v3(torch.cuda.current_stream().cuda_stream)
    torch.cuda.synchronize()
    expected = torch.as_tensor(OnnxPredictor(graph)(unseen.inputs, unseen.present))
    assert (logits.cpu().argmax(1) == expected.argmax(1)).double().mean() > 0.99

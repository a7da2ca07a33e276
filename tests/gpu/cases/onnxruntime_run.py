# SPDX-License-Identifier: MIT
# onnxruntime with its CUDA provider, where there is one.
# needs: onnxruntime, onnx, numpy
import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from support import show, skip

providers = onnxruntime.get_available_providers()
if "CUDAExecutionProvider" not in providers:
    skip(f"onnxruntime has no CUDA provider here, only {', '.join(providers)}")
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["r"]), helper.make_node("Softmax", ["r"], ["y"])],
    "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 64])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [8, 32])],
    [helper.make_tensor("w", TensorProto.FLOAT, [64, 32], np.random.default_rng(1).standard_normal(64 * 32).astype(np.float32))])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CUDAExecutionProvider"])
show("provider", session.get_providers()[0])
for seed in range(5):
    show("y", session.run(None, {"x": np.random.default_rng(seed).standard_normal((8, 64)).astype(np.float32)})[0])

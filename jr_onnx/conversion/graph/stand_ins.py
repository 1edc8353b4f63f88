"""What ONNX's shape inference can be told of operators that it does not know.

Its inference stops at such an operator, and then no type behind it is known. So, in a copy of the model that is only
inferred, operators of ONNX stand in for it: Identity where an output has the type and the shape of an input, Reshape to
an unknown shape where it has the type alone.

Source: onnxruntime 1.32, docs/ContribOperators.md and core/graph/contrib_ops/*_defs.cc. A test holds the tables
against the schemas of the onnxruntime that is installed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, MutableSequence
from functools import lru_cache
from typing import NamedTuple, cast

import onnx
import onnx.defs

from jr_onnx.conversion.graph.names import ADD_OP_TYPE, DOMAIN, OP_TYPE, QUANTIZED_OP_TYPE
from jr_onnx.conversion.graph.scopes import (
    FunctionKey,
    all_scopes,
    called_by,
    functions_of,
    graphs_in,
    own_domain,
    schema_of,
)

#: A value that nothing gives: its content, its type and its shape are unknown to the inference.
_UNKNOWN = "jr_onnx.unknown"


class StandIn(NamedTuple):
    """One node for one output: an operator of ONNX, and which inputs of the original it takes; None is unknown."""

    op_type: str
    inputs: tuple[int | None, ...]


def _like(index: int = 0) -> StandIn:
    return StandIn("Identity", (index,))


def _typed(index: int = 0) -> StandIn:
    return StandIn("Reshape", (index, None))


_FLOAT = StandIn("ConstantOfShape", (None,))  # of type float, where no value is given

#: Operators of com.microsoft whose first output has the type and the shape of the first input.
_SAME = """
    BiasAdd BiasDropout BiasGelu BiasSoftmax BitmaskBiasDropout BitmaskDropout FastGelu GatedAdd GatedRMSNorm Gelu
    GroupNorm Inverse MRotaryEmbedding MoE QMoE QuickGelu RotaryEmbedding SampleOp Trilu
"""

#: Operators of com.microsoft whose first output has the type of the first input, and another shape.
_SAME_TYPE = """
    Attention AttnLSTM BiasSplitGelu CDist CausalConvWithState ComplexMul ComplexMulConj ConvTransposeWithDynamicPads
    CropAndResize DecoderAttention DecoderMaskedMultiHeadAttention DecoderMaskedSelfAttention DynamicQuantizeLSTM
    DynamicQuantizeMatMul EngramGate ExpandDims FusedMatMul FusedMatMulActivation GatedDeltaNet
    GatedRelativePositionBias GatherND GemmFastGelu GroupQueryAttention Irfft LinearAttention LongformerAttention
    MatMulBlockQuantizedFp4Weight MatMulBlockQuantizedFp8Weight MatMulBnb4 MatMulFpQ4 MatMulNBits MatMulNBitsMlp
    MatMulNBitsQkv MaxpoolWithMask MultiHeadAttention NhwcConv NhwcFusedConv PackedAttention PackedMultiHeadAttention
    Pad PagedAttention Range RelativePositionBias RemovePadding RestorePadding Rfft SparseAttention TorchEmbedding
    TransposeMatMul UnfoldTensor Unique VarlenCausalConvWithState
"""

#: (domain, op_type) -> what stands in for each output; None for an output of which nothing is said.
TABLE: Mapping[tuple[str, str], tuple[StandIn | None, ...]] = {
    **{("com.microsoft", name): (_like(),) for name in _SAME.split()},
    **{("com.microsoft", name): (_typed(),) for name in _SAME_TYPE.split()},
    ("com.microsoft", "AttnLSTM"): (_typed(), _typed(), _typed()),
    ("com.microsoft", "DequantizeLinear"): (_typed(1),),
    ("com.microsoft", "DynamicQuantizeLSTM"): (_typed(), _typed(), _typed()),
    ("com.microsoft", "EmbedLayerNormalization"): (_typed(2), None, _typed(2)),
    ("com.microsoft", "FusedConv"): (StandIn("Conv", (0, 1, 2)),),
    ("com.microsoft", "FusedGemm"): (StandIn("Gemm", (0, 1, 2)),),
    ("com.microsoft", "GatherBlockQuantized"): (_typed(2),),
    ("com.microsoft", "GemmaRotaryEmbedding"): (_typed(1), _typed(1)),
    ("com.microsoft", "MatMulIntegerToFloat"): (_typed(2),),
    ("com.microsoft", "MatMulNBitsQkv"): (_typed(), _typed(), _typed(), _like()),
    ("com.microsoft", "NGramRepeatBlock"): (_like(1),),
    ("com.microsoft", "QAttention"): (_typed(2),),
    ("com.microsoft", "QEmbedLayerNormalization"): (_typed(8),),
    ("com.microsoft", "QLinearAdd"): (StandIn("Add", (0, 3)),),
    ("com.microsoft", "QLinearAveragePool"): (StandIn("AveragePool", (0,)),),
    ("com.microsoft", "QLinearGlobalAveragePool"): (StandIn("GlobalAveragePool", (0,)),),
    ("com.microsoft", "QLinearLeakyRelu"): (_like(),),
    ("com.microsoft", "QLinearMul"): (StandIn("Mul", (0, 3)),),
    ("com.microsoft", "QLinearSigmoid"): (_like(),),
    ("com.microsoft", "QuantizeLinear"): (StandIn("QuantizeLinear", (0, 1, 2)),),
    ("com.microsoft", "SkipGroupNorm"): (_like(), _like()),
    ("com.microsoft", "SkipLayerNormalization"): (_like(), None, None, _like()),
    ("com.microsoft", "SkipSimplifiedLayerNormalization"): (_like(), None, None, _like()),
    ("com.microsoft", "SparseToDenseMatMul"): (_typed(1),),
    ("com.microsoft", "WordConvEmbedding"): (_typed(1),),
    ("com.microsoft.nchwc", "AveragePool"): (StandIn("AveragePool", (0,)),),
    ("com.microsoft.nchwc", "Conv"): (StandIn("Conv", (0, 1, 2)),),
    ("com.microsoft.nchwc", "GlobalAveragePool"): (StandIn("GlobalAveragePool", (0,)),),
    ("com.microsoft.nchwc", "GlobalMaxPool"): (StandIn("GlobalMaxPool", (0,)),),
    ("com.microsoft.nchwc", "MaxPool"): (StandIn("MaxPool", (0,)),),
    # In the blocked layout channels are padded to whole blocks, so shapes differ on the two sides of these.
    ("com.microsoft.nchwc", "ReorderInput"): (_typed(),),
    ("com.microsoft.nchwc", "ReorderOutput"): (_typed(),),
    ("com.microsoft.nchwc", "Upsample"): (_typed(),),
    # onnxruntime's own, in ONNX's domain and of any version: LayerNormalization came to ONNX with opset 17. It is
    # typed like its scale; Mul takes the type of its first input.
    ("", "LayerNormalization"): (StandIn("Mul", (1, 0)),),
    ("", "SimplifiedLayerNormalization"): (StandIn("Mul", (1, 0)),),
    ("", "MemcpyFromHost"): (_like(),),
    ("", "MemcpyToHost"): (_like(),),
    ("ai.onnx.ml", "FeatureVectorizer"): (_FLOAT,),
    ("ai.onnx.ml", "Imputer"): (_like(),),
    ("ai.onnx.ml", "LinearRegressor"): (_FLOAT,),
    ("ai.onnx.ml", "Normalizer"): (_FLOAT,),
    ("ai.onnx.ml", "SVMClassifier"): (None, _FLOAT),
    ("ai.onnx.ml", "SVMRegressor"): (_FLOAT,),
    ("ai.onnx.ml", "Scaler"): (_FLOAT,),
    ("ai.onnx.ml", "TreeEnsembleClassifier"): (None, _FLOAT),
    ("ai.onnx.ml", "TreeEnsembleRegressor"): (_FLOAT,),
    (DOMAIN, OP_TYPE): (_like(),),
    (DOMAIN, QUANTIZED_OP_TYPE): (_like(),),
    (DOMAIN, ADD_OP_TYPE): (_like(),),
}


def put_stand_ins(model: onnx.ModelProto, *, foreign: bool = True) -> None:
    """Replace, in place, every node that ONNX's shape inference does not know, and of which something can be said.

    A node that calls a function of the model stays: the inference looks into functions.

    Args:
        foreign: those of other domains too, and not only those that onnxruntime adds to ONNX's own domain.
    """
    functions = functions_of(model)
    for scope in all_scopes(model):
        holder = scope.graph or scope.function
        if scope.parent is None and holder is not None:
            _replace(cast("MutableSequence[onnx.NodeProto]", holder.node), scope.opsets, functions, foreign)


def _replace(
    nodes: MutableSequence[onnx.NodeProto],
    opsets: Mapping[str, int],
    functions: Collection[FunctionKey],
    foreign: bool,
) -> None:
    replaced: list[onnx.NodeProto] = []
    for node in nodes:
        for graph in graphs_in(node):
            _replace(cast("MutableSequence[onnx.NodeProto]", graph.node), opsets, functions, foreign)
        domain = own_domain(node.domain)
        known = called_by(node) in functions or (bool(domain) and not foreign)
        stand_ins = () if known else _stand_ins(domain, node.op_type, opsets.get(domain, 0))
        replaced += _written(node, stand_ins) if stand_ins else [node]
    if len(replaced) != len(nodes) or any(new is not node for new, node in zip(replaced, nodes, strict=True)):
        del nodes[:]
        nodes.extend(replaced)


def _written(node: onnx.NodeProto, stand_ins: tuple[StandIn | None, ...]) -> Iterator[onnx.NodeProto]:
    for stand_in, output in zip(stand_ins, node.output, strict=False):
        if stand_in is not None and output:
            inputs = [
                _UNKNOWN if i is None else node.input[i] for i in stand_in.inputs if i is None or i < len(node.input)
            ]
            known = onnx.defs.get_schema(stand_in.op_type).attributes
            attributes = [attribute for attribute in node.attribute if attribute.name in known]
            yield onnx.NodeProto(op_type=stand_in.op_type, input=inputs, output=[output], attribute=attributes)


@lru_cache(maxsize=1024)
def _stand_ins(domain: str, op_type: str, version: int) -> tuple[StandIn | None, ...]:
    """What stands in for an operator; nothing where ONNX's inference knows it, or where nobody does."""
    schema = schema_of(domain, op_type, version)
    if schema is not None and schema.has_type_and_shape_inference_function:
        return ()
    return TABLE.get((domain, op_type), ())

"""Ops that mlc will not do, each with what to do instead: better than "no converter"."""

from collections.abc import Sequence
from typing import Any

from mlc.frontend.onnx.context import NodeContext
from mlc.frontend.onnx.registry import converter

STRINGS = "works on strings, which mlc does not hold: do this part in Python, before or after the model"
REASONS = {
    "ImageDecoder": "decodes image files: decode before the model, and pass it pixels",
    "StringConcat": STRINGS, "StringNormalizer": STRINGS, "StringSplit": STRINGS, "RegexFullMatch": STRINGS,
}
ML_REASONS = {"CategoryMapper": STRINGS, "CastMap": "takes a map, which is no tensor", "DictVectorizer": "takes a map, which is no tensor",
              "ZipMap": "gives a sequence of maps, which are no tensors: take the scores it is made from"}


def _refuse(domain: str, op: str, reason: str) -> None:
    @converter(op, domain=domain)
    def refused(ctx: NodeContext) -> Sequence[Any]:
        raise ctx.unsupported(reason)


for _op, _reason in REASONS.items():
    _refuse("", _op, _reason)
for _op, _reason in ML_REASONS.items():
    _refuse("ai.onnx.ml", _op, _reason)

"""The encoders that a gateway could wait for: each gives a text's embedding, on one core.

ONNX Runtime, OpenVINO and NNCF are no dependencies: a variant whose library is not installed is left out, and said so.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from symbiosis.text import encoder
from symbiosis.text.bert import BertEncoder

MAXIMUM_TOKENS = 256
CALIBRATION = 100
Embed = Callable[[str], np.ndarray]


def own() -> dict[str, Embed]:
    """Our encoder in each precision, and its first layers alone."""
    whole = encoder.load(encoder.OFFLINE, MAXIMUM_TOKENS)
    variants: dict[str, Embed] = {name: encoder.embedder(whole, name) for name in ("float32", "bfloat16", "int8")}
    for layers in (4, 3, 2):
        short = encoder.load(encoder.OFFLINE, MAXIMUM_TOKENS, layers=layers)
        variants[f"int8, {layers} layers"] = encoder.embedder(short, "int8")
    return variants


def torch_dynamic(model: BertEncoder) -> Embed:
    """Torch's own dynamic int8: a scale per output of a weight, and one per activation matrix."""
    import torch

    bert = _transformer()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantised = torch.ao.quantization.quantize_dynamic(bert, {torch.nn.Linear}, dtype=torch.qint8)

    @torch.inference_mode()
    def embed(text: str) -> np.ndarray:
        ids = torch.tensor([model.tokenizer.encode(text).ids])
        return _of_length_one(quantised(ids)[0].mean(dim=1)[0].numpy())

    return embed


def static(model: BertEncoder) -> Embed:
    """Token vectors as model2vec makes them: the encoder's output for each token alone, principal components, weights.

    References
    ----------
    Minish Lab, model2vec (2024); Arora et al. 2017, A simple but tough-to-beat baseline for sentence embeddings.
    """
    from symbiosis.text.int8 import Shape, packed_embedder

    embed_tokens = packed_embedder(model.tensors, Shape(model.layers, model.heads, model.epsilon, model.normalised))
    first, last = model.tokenizer.token_to_id("[CLS]"), model.tokenizer.token_to_id("[SEP]")
    size = model.tokenizer.get_vocab_size()
    outputs = np.concatenate(
        [
            embed_tokens([[first, token, last] for token in range(start, min(start + 64, size))])
            for start in range(0, size, 64)
        ]
    )
    centred = outputs - outputs.mean(axis=0)
    _, components = np.linalg.eigh(centred.T @ centred)
    # The vocabulary is in order of frequency, which falls as one over the rank.
    frequency = 1 / (np.arange(size) + 2)
    frequency /= frequency.sum()
    table = (centred @ components[:, :-257:-1]) * (1e-3 / (1e-3 + frequency))[:, None]
    width = outputs.shape[1]

    def embed(text: str) -> np.ndarray:
        ids = model.tokenizer.encode(text).ids[1:-1]
        vector = np.zeros(width, dtype=np.float32)
        if ids:
            vector[: table.shape[1]] = table[ids].mean(axis=0)
        return _of_length_one(vector)

    return embed


def onnx_runtime(model: BertEncoder, folder: Path) -> Iterator[tuple[str, Embed]]:
    """ONNX Runtime: float32, and dynamic int8 with a scale per weight matrix or per output; fused attention."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers import optimizer

    fused = folder / "fused.onnx"
    if not fused.exists():
        config = {"model_type": "bert", "num_heads": model.heads, "hidden_size": 384, "opt_level": 1}
        optimizer.optimize_model(str(_exported(folder)), **config).save_model_to_file(str(fused))
    files = {"ONNX Runtime float32": fused}
    for name, by_output in (("ONNX Runtime int8", False), ("ONNX Runtime int8 by output", True)):
        files[name] = folder / f"{name.replace(' ', '_')}.onnx"
        if not files[name].exists():
            kind: dict[str, Any] = {"weight_type": QuantType.QInt8, "extra_options": {"DefaultTensorType": 1}}
            quantize_dynamic(str(fused), str(files[name]), per_channel=by_output, **kind)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    for name, file in files.items():
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        yield name, lambda text, session=session: _pooled(session.run(None, _inputs(model, text))[0])


def openvino(model: BertEncoder, folder: Path, texts: list[str]) -> Iterator[tuple[str, Embed]]:
    """OpenVINO: int8 weights with activations quantised as they come, and both quantised by NNCF on some texts."""
    import nncf
    import openvino

    core = openvino.Core()

    def compiled(network: Any, **settings: str) -> Embed:
        threads = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        request = core.compile_model(network, "CPU", {**threads, **settings}).create_infer_request()
        return lambda text: _pooled(request.infer(_inputs(model, text))[0])

    exported = _exported(folder)
    weights = nncf.compress_weights(core.read_model(exported), mode=nncf.CompressWeightsMode.INT8_SYM)
    yield "OpenVINO int8 weights, dynamic", compiled(weights, DYNAMIC_QUANTIZATION_GROUP_SIZE="384")
    samples = nncf.Dataset(texts[:CALIBRATION], lambda text: _inputs(model, text))
    kind = {"model_type": nncf.ModelType.TRANSFORMER, "preset": nncf.QuantizationPreset.MIXED}
    quantised = nncf.quantize(core.read_model(exported), samples, subset_size=CALIBRATION, **kind)
    yield "OpenVINO int8, calibrated", compiled(quantised)


def installed(folder: Path, texts: list[str]) -> tuple[dict[str, Embed], list[str]]:
    """Return all variants whose library is installed, and what is left out and why.

    Parameters
    ----------
    folder
        Exported networks are kept there.
    texts
        To calibrate with.
    """
    model = encoder.load(encoder.OFFLINE, MAXIMUM_TOKENS)
    assert isinstance(model, BertEncoder)
    variants, missing = own(), []
    variants["torch dynamic int8"] = torch_dynamic(model)
    variants["static, as model2vec"] = static(model)
    for library, make in (
        ("ONNX Runtime", lambda: onnx_runtime(model, folder)),
        ("OpenVINO", lambda: openvino(model, folder, texts)),
    ):
        try:
            variants.update(make())
        except ImportError as error:
            missing.append(f"{library}: {error}")
    return variants, missing


def _transformer() -> Any:
    import torch
    from transformers import AutoModel

    bert = AutoModel.from_pretrained(encoder._folder(encoder.OFFLINE, None, "train_encoder")).eval()

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor]:
            return (self.bert(input_ids=input_ids).last_hidden_state,)

    return States()


def _exported(folder: Path) -> Path:
    """Return the encoder as an ONNX file, exported if it is not there."""
    file = folder / "encoder.onnx"
    if file.exists():
        return file
    import torch
    from transformers import AutoModel

    place = encoder._folder(encoder.OFFLINE, None, "train_encoder")
    bert = AutoModel.from_pretrained(place, attn_implementation="eager").eval()

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
            states: torch.Tensor = self.bert(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state
            return states

    ids = torch.randint(5, 1000, (2, 17))
    names = ["input_ids", "attention_mask", "token_type_ids"]
    axes = {name: {0: "texts", 1: "tokens"} for name in [*names, "states"]}
    partial = file.with_suffix(f".{os.getpid()}")
    given = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            States(), given, str(partial), input_names=names, output_names=["states"], dynamic_axes=axes,
            opset_version=17, dynamo=False,
        )  # fmt: skip
    partial.rename(file)
    return file


def _inputs(model: BertEncoder, text: str) -> dict[str, np.ndarray]:
    ids = np.array([model.tokenizer.encode(text).ids])
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def _pooled(states: Any) -> np.ndarray:
    return _of_length_one(np.asarray(states)[0].mean(axis=0))


def _of_length_one(vector: np.ndarray) -> np.ndarray:
    return (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)

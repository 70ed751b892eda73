"""TensorRT, or TensorRT-RTX, for real: build where absent, load, check, time."""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmark.gpu.plan import AbsentError, Save
from benchmark.speed.measure import summary
from cigocc_ros.core.errors import EngineError
from cigocc_ros.core.manifest import load_manifest
from cigocc_ros.runtime.engine import TENSORRT, create_engine
from cigocc_ros.runtime.loading import Loading
from cigocc_ros.runtime.predictor import find_model_dir
from cigocc_ros.runtime.self_check import check_engine, load_golden
from cigocc_ros.runtime.tensorrt.builder import build_engine
from cigocc_ros.runtime.tensorrt.gpus import find_gpu
from cigocc_ros.runtime.tensorrt.library import find_tensorrt
from cigocc_ros.runtime.tensorrt.options import TensorRtOptions

WARM_UP = 20
DEADLINE_S = 30.0


def run_tensorrt(args: argparse.Namespace, save: Save) -> None:
    """Save library, GPU, build, and per way of launching: agreement with golden, latency."""
    try:
        library, gpu = find_tensorrt(), find_gpu()
    except EngineError as error:
        raise AbsentError(str(error)) from error
    model_dir = find_model_dir(args.model or args.config)
    manifest = load_manifest(model_dir)
    found: dict[str, Any] = {'library': str(library), 'gpu': vars(gpu), 'model': manifest.model_id}
    save(found)
    options = TensorRtOptions(engine_dir=str(args.work), deadline_s=DEADLINE_S)
    started_s = time.monotonic()
    built = build_engine(model_dir, manifest, options, lambda _: None, Loading())
    found |= {
        'built': built.built,
        'build_s': round(time.monotonic() - started_s, 1),
        'engine_mb': round(built.sidecar.engine_bytes / 1e6, 1),
        'layers': built.sidecar.layers,
        'plugins': built.sidecar.plugins,
        'precision': built.sidecar.key.precision,
    }
    save(found)
    golden = load_golden(model_dir, manifest)
    if golden is None:
        raise AbsentError(f'{model_dir} has no stored answers to compare with')
    for cuda_graph in (True, False):
        options = TensorRtOptions(
            engine_dir=str(args.work),
            deadline_s=DEADLINE_S,
            cuda_graph=cuda_graph,
            build_missing=False,
        )
        engine = create_engine(TENSORRT, model_dir, manifest, tensorrt=options)
        try:
            agreement = check_engine(engine, golden)
            times_ms = []
            for turn in range(WARM_UP + args.runs):
                begun = time.perf_counter()
                engine.run(golden.inputs)
                if turn >= WARM_UP:
                    times_ms.append(1e3 * (time.perf_counter() - begun))
        finally:
            engine.close()
        name = 'cuda graph' if cuda_graph else 'kernels one by one'
        found[name] = {'golden_agreement': agreement, **summary(times_ms)}
        save(found)

"""The node `occ`: camera images in, semantic voxels out."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import rclpy
import rclpy.logging
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

from cigocc_ros.core.errors import CigoccError, ConfigError
from cigocc_ros.core.frames import CameraFrame, Occupancy
from cigocc_ros.core.manifest import ModelManifest
from cigocc_ros.ros.counters import Counters, Snapshot
from cigocc_ros.ros.diagnostics import Diagnostics, NodeState
from cigocc_ros.ros.dropped import DroppedFrame
from cigocc_ros.ros.input.decoder import FrameDecoder
from cigocc_ros.ros.input.extrinsics import create_extrinsics
from cigocc_ros.ros.input.pairing import Bundle
from cigocc_ros.ros.input.subscriptions import LABEL_TOPIC, Inputs
from cigocc_ros.ros.log_forwarding import Throttle, forward_logging
from cigocc_ros.ros.occ_parameters import OccParameters
from cigocc_ros.ros.output.grids import class_info_json, grid_format, save_grid
from cigocc_ros.ros.output.publishers import Outputs
from cigocc_ros.ros.parameters import Live, declare, guard, usage
from cigocc_ros.ros.process import remove_orphans, run_node, wants_help, without_hung_threads
from cigocc_ros.ros.stamps import StampWatch, has_latency, stamp_to_ns
from cigocc_ros.ros.worker import FramePredictor, Pipeline, Worker, overlaps
from cigocc_ros.runtime.loading import Loading, LoadingCancelled

logger = logging.getLogger(__name__)
NODE_NAME = 'occ'
USAGE = """\
occ_node: camera images in, semantic voxels out.

    ros2 launch cigocc_ros occ.launch.py image:=/cam/image_rect camera_info:=/cam/camera_info
    ros2 run cigocc_ros occ_node --ros-args -r image:=/cam/image_rect -p model:=mid

Topics and parameters: docs/interface.md. Parameters:"""
PredictorFactory = Callable[[OccParameters, Loading], FramePredictor]


def load_predictor(parameters: OccParameters, loading: Loading) -> FramePredictor:
    """Load the model that the parameters name; raise ManifestError, EngineError."""
    from cigocc_ros.runtime.predictor import Predictor

    return Predictor.from_model_dir(
        parameters.model,
        parameters.backend,
        parameters.threads,
        parameters.tensorrt,
        loading,
        parameters.device,
    )


class Task(NamedTuple):
    """A frame on its way: when its decoding began, and what the last step made of it."""

    started_s: float
    content: Any


class OccNode(Node):  # type: ignore[misc]  # rclpy is not read by mypy
    """Subscribe to a camera, predict in a worker thread, publish."""

    def __init__(self, predictor_factory: PredictorFactory = load_predictor, **node: Any) -> None:
        """Load and warm up the model, then subscribe.

        `node` goes to rclpy.node.Node: context, namespace, parameter_overrides, ... Raises
        CigoccError where model, calibration or parameters cannot work.
        """
        super().__init__(NODE_NAME, **node)
        self._stop_forwarding = forward_logging(self)
        self._counters, self._throttle, self._enabled = Counters(), Throttle(), True
        self._stamps = StampWatch()
        self._loading = Loading()
        self.worker: Worker[Bundle] | None = None
        try:
            self._start(predictor_factory)
        except BaseException:
            self.destroy_node()
            raise

    def _start(self, predictor_factory: PredictorFactory) -> None:
        self.parameters = declare(self, OccParameters)
        self._extrinsics = create_extrinsics(self, self.parameters)
        guard(self, OccParameters)
        grid = grid_format(self.parameters.grid_type)
        self._outputs = Outputs(self, Live(self, self.parameters), grid)
        self.worker = Worker(
            lambda: predictor_factory(self.parameters, self._loading),
            self._handle,
            self.context.try_shutdown,
            Pipeline(self._prepare, self._infer, self._publish),
        )
        self._diagnostics = Diagnostics(self)
        self._predictor = self._loaded(self.worker)
        manifest, frame = self._predictor.manifest, self.parameters.output_frame
        _require_input(manifest, self.parameters)
        size, calibration = self._predictor.grid, manifest.calibration
        threshold = None if calibration is None else calibration.threshold
        self._outputs.publish_class_info(
            class_info_json(manifest.model_id, size, frame, grid.layout, threshold)
        )
        self._outputs.publish_legend(size, frame)
        counters = self._counters
        self._inputs = Inputs(
            self, self.parameters, self._receive, counters.add_lost, counters.add_doubt
        )
        self._decode = FrameDecoder(
            self.parameters, self._inputs.topics, self._extrinsics, counters, manifest
        )
        self.create_service(SetBool, '~/enable', self._on_enable)
        self.create_service(Trigger, '~/save_grid', self._on_save_grid)
        self._diagnostics.start(self.snapshot, self._state)
        logger.info('ready: model %s, images from %s', manifest.model_id, self._inputs.image.topic)

    def _loaded(self, worker: Worker[Bundle]) -> FramePredictor:
        """Wait for the predictor and tell /diagnostics; a shutdown cancels."""

        def waiting() -> None:
            if self.context.ok():
                self._diagnostics.report_loading(self._loading.message)
            else:
                self._loading.cancel()

        try:
            predictor = worker.start(waiting)
        except LoadingCancelled as error:
            raise ExternalShutdownException from error
        if not self.context.ok():
            raise ExternalShutdownException
        return predictor

    def _receive(self, bundles: list[Bundle]) -> None:
        """Put the newest frame into the worker's mailbox; older ones are replaced by it."""
        if not self._enabled or self.worker is None:
            return
        for bundle in bundles:
            stamp_ns = stamp_to_ns(bundle.image.header.stamp)
            self._counters.add_image(self._stamps.fault(stamp_ns, self._now_ns()))
        for _ in bundles[:-1]:
            self._counters.add_replaced()
        if self.worker.mailbox.put(bundles[-1]):
            self._counters.add_replaced()

    def _handle(self, predictor: FramePredictor, bundle: Bundle) -> None:
        """Decode, predict, publish; a bad frame is counted and the next one awaited."""
        task = self._prepare(predictor, bundle)
        result = None if task is None else self._infer(predictor, task)
        if result is not None:
            self._publish(result)

    def _prepare(self, predictor: FramePredictor, bundle: Bundle) -> Task | None:
        started_s = time.perf_counter()
        try:
            frame = _decoded(self._decode, bundle)
            prepared = _guarded(predictor.prepare, frame) if overlaps(predictor) else frame
            return Task(started_s, prepared)
        except CigoccError as error:
            self._drop(error)
            return None

    def _infer(self, predictor: FramePredictor, task: Task) -> Task | None:
        infer: Callable[[Any], Occupancy]
        infer = predictor.infer if overlaps(predictor) else predictor
        try:
            return Task(task.started_s, _guarded(infer, task.content))
        except CigoccError as error:
            self._drop(error)
            return None

    def _publish(self, task: Task) -> None:
        if not self.context.ok():
            return
        occupancy, started_s = task.content, task.started_s
        try:
            self._outputs.publish(occupancy)
            now_ns, stamp_ns = self._now_ns(), occupancy.stamp_ns
            processing_ms = 1e3 * (time.perf_counter() - started_s)
            pipeline_ms = 1e-6 * (now_ns - stamp_ns) if has_latency(stamp_ns, now_ns) else None
            self._counters.add_processed(processing_ms, pipeline_ms)
            self._outputs.publish_times(processing_ms, pipeline_ms)
        except Exception:
            if self.context.ok():
                raise
            # Ctrl-C invalidated the publishers between two lines: nothing is lost

    def _drop(self, error: CigoccError) -> None:
        reason = error.reason if isinstance(error, DroppedFrame) else 'invalid_frame'
        self._counters.add_dropped(reason, str(error))
        silent = self._throttle(reason)
        if silent is not None:
            more = f' ({silent} more since the last such line)' if silent else ''
            logger.warning('frame dropped, %s: %s%s', reason, error, more)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        """Start or stop the work; the model stays loaded, a frame begun is still finished."""
        self._enabled = request.data
        if not self._enabled and self.worker is not None:
            for _ in range(self.worker.clear()):
                self._counters.add_replaced()
        response.success = True
        response.message = 'enabled' if self._enabled else 'disabled'
        return response

    def _on_save_grid(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Write the newest grid to the folder `save_dir`; say where, or why not."""
        folder = self.parameters.save_dir
        try:
            path = save_grid(folder, self._outputs.latest, self._predictor.manifest.model_id)
        except CigoccError as error:
            response.message = str(error)
            return response
        response.success, response.message = True, str(path)
        return response

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def snapshot(self) -> Snapshot:
        """Return what was counted so far."""
        return self._counters.snapshot()

    def _state(self) -> NodeState:
        return NodeState(
            enabled=self._enabled,
            backend=self._predictor.engine.name,
            model_id=self._predictor.manifest.model_id,
            info_age_s=self._inputs.info.age_s,
            image_topic=self._inputs.image.topic,
            info_topic=self._inputs.info.topic,
            image_reliability=self._inputs.image.reliability.name.lower(),
            extrinsics_source=self._extrinsics.source,
            extrinsics_problem=self._extrinsics.problem,
            extrinsics_warning=self._extrinsics.warning,
            semantic_topic=str(self.resolve_topic_name(LABEL_TOPIC)),
            semantic_classes=self.parameters.semantic_classes,
            engine_problem=getattr(self._predictor.engine, 'problem', '') or self._hang(),
        )

    def _hang(self) -> str:
        return '' if self.worker is None else self.worker.hang

    def destroy_node(self) -> None:
        """End the worker, then the node; an engine that hangs is left behind."""
        self._loading.cancel()
        if self.worker is not None and not self.worker.stop():
            logger.critical('the engine hangs and is left to the end of the process')
        self._stop_forwarding()
        super().destroy_node()


def _require_input(manifest: ModelManifest, parameters: OccParameters) -> None:
    """Raise ConfigError for label images that the model has no input for."""
    if parameters.semantic_classes and not manifest.takes_semantic_prior:
        raise ConfigError(
            f'semantic_classes is set, but the model {manifest.model_id} takes no classes from '
            'outside (no input semantic_prior): leave it empty, or give a model whose config says '
            'semantic_prior: true (docs/semantic_prior.md)'
        )


def _decoded(decode: Callable[[Bundle], CameraFrame], bundle: Bundle) -> CameraFrame:
    """Return the frame; a message that no check foresaw costs one frame, not the node."""
    try:
        return decode(bundle)
    except CigoccError:
        raise
    except Exception as error:
        logger.debug('decoding error', exc_info=True)
        raise DroppedFrame('decode_error', f'{type(error).__name__}: {error}') from error


def _guarded(step: Callable[[Any], Any], content: Any) -> Any:
    """Return what a step of the predictor gives; what it raises costs one frame, not the node."""
    try:
        return step(content)
    except Exception as error:
        logger.debug('engine error', exc_info=True)
        raise DroppedFrame('engine_error', f'{type(error).__name__}: {error}') from error


def _spin(node: OccNode, executor: SingleThreadedExecutor) -> int:
    """Spin for ever; return 1 where a bug in the predictor thread ended it."""
    with contextlib.suppress(ExternalShutdownException):
        rclpy.spin(node, executor)
    return 1 if node.worker is not None and node.worker.error else 0


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; return 1 where it cannot start or breaks."""
    if wants_help(args):
        sys.stdout.write(usage(OccParameters, USAGE) + '\n')
        return 0
    freed_mb = remove_orphans() / 1e6
    if freed_mb:
        rclpy.logging.get_logger(NODE_NAME).info(
            f'{freed_mb:.0f} MB of shared memory freed that killed processes had left'
        )
    return without_hung_threads(run_node(NODE_NAME, args, OccNode, _spin))

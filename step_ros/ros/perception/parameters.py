# SPDX-License-Identifier: Apache-2.0
"""The parameters of the perception node. Their defaults are in `config/perception.yaml`."""

from step_ros.ros.parameters import Parameter

DEFAULTS_FILE = 'perception.yaml'
# Name of the perception node without a namespace.
PERCEPTION = '/perception'
# Start of the log line that gives the reason; `NodeProcess.check` looks for it.
NOT_CONFIGURED = 'not configured'

# The executor is read when the node starts, the others when it is configured. A change of a live
# parameter takes effect at once; a change of another one takes effect at the next configuration.
PARAMETERS = (
    Parameter(
        name='autostart',
        description='Whether the node configures and activates itself when it starts, without a '
        'lifecycle manager.',
    ),
    Parameter(
        name='executor',
        description='Executor of the node, read when it starts: `events` (costs the least), '
        '`single`, or `auto`: `events` where this rclpy has it, else `single`.',
        choices=('auto', 'events', 'single'),
    ),
    Parameter(
        name='bundle',
        description='Model bundle: a folder, or the name of a bundle shipped with the package.',
    ),
    Parameter(
        name='device',
        description='Device of the encoder: `auto` (CUDA if available, else the CPU), `cpu`, '
        '`cuda` or `cuda:N`.',
    ),
    Parameter(
        name='runtime',
        description='Runtime of the encoder: `torch`, `openvino`, `onnx`, `openvino-int8` '
        '(exported beside the bundle), the folder of an exported encoder, or `auto`: CUDA if '
        'available, else the faster of torch and OpenVINO. A runtime that does not start is '
        'replaced by torch.',
    ),
    Parameter(
        name='precision',
        description='Number format of the encoder; `auto`: float32 on the CPU, bfloat16 or '
        'float16 on CUDA.',
        choices=('auto', 'float32', 'bfloat16', 'float16'),
    ),
    Parameter(
        name='threads',
        description='CPU threads of torch and OpenCV. 0: one for a small model whose frames take '
        'at most 1.5 times as long with one thread as with all, measured when the node is '
        'configured; else all.',
        minimum=0,
        maximum=256,
    ),
    Parameter(
        name='cameras',
        description='Names of the cameras, as in the hypotheses.',
    ),
    Parameter(
        name='image_topics',
        description='Image topic of each camera, in the same order; a topic without a leading '
        "slash is in the node's namespace.",
    ),
    Parameter(
        name='active_cameras',
        description='Cameras that the node subscribes to; a single empty name: all.',
        live=True,
    ),
    Parameter(
        name='fusion',
        description='`mean`: all cameras show one scene; the scores of synchronised views are '
        'averaged, and the hypotheses have the camera `fused`. `none`: each camera has its own '
        'hypotheses.',
        choices=('none', 'mean'),
    ),
    Parameter(
        name='region_topics',
        description='Topic of each camera with the region of the person '
        '(`sensor_msgs/RegionOfInterest`), for example from a person detector; empty for a camera '
        'without regions. A single empty name: no camera has regions.',
    ),
    Parameter(
        name='region_margin',
        description="Margin on each side of a region, as a share of the region's size.",
        minimum=0.0,
        maximum=10.0,
    ),
    Parameter(
        name='region_timeout',
        description='How long a region is used; without a newer one the whole image is used '
        'again.',
        unit='s',
        minimum=0.0,
        maximum=3600.0,
    ),
    Parameter(
        name='stream_timeout',
        description='A camera that sends no image for this long is lost: its open events end, and '
        'goals that wait for it end with STREAM_LOST. 0: a camera is never lost.',
        unit='s',
        minimum=0.0,
        maximum=3600.0,
    ),
    Parameter(
        name='transport',
        description='`raw` (`sensor_msgs/Image`), `compressed` (`sensor_msgs/CompressedImage`), '
        'or `auto`: compressed if the topic ends in `/compressed`.',
        choices=('auto', 'raw', 'compressed'),
    ),
    Parameter(
        name='grey_16uc1',
        description='Whether images in `16UC1` are grey, as infrared and thermal cameras send '
        'them; otherwise they are refused as depth.',
    ),
    Parameter(
        name='reliability',
        description='Reliability of the image subscriptions; `auto`: reliable if all publishers '
        'of the topic are, else best effort.',
        choices=('auto', 'best_effort', 'reliable'),
    ),
    Parameter(
        name='queue_size',
        description='Grid frames of each camera that may wait in the queue. If more arrive, the '
        'machine is overloaded: load shedding drops whole windows and rotates the cameras.',
        unit='grid frames',
        minimum=1,
        maximum=1000,
    ),
    Parameter(
        name='order_tolerance',
        description='A frame whose stamp is older than the newest one by more than this is '
        'dropped as late.',
        unit='s',
        minimum=0.0,
        maximum=10.0,
    ),
    Parameter(
        name='max_gap',
        description='A longer time between the stamps of two grid frames restarts the window; 0: '
        'two and a half frame periods of the bundle.',
        unit='s',
        minimum=0.0,
        maximum=60.0,
    ),
    Parameter(
        name='jump_back',
        description='A frame whose stamp is older than the newest one by more than this restarts '
        'the window: the clock jumped back (a looped bag, a simulation reset).',
        unit='s',
        minimum=0.01,
        maximum=60.0,
    ),
    Parameter(
        name='order_evidence',
        description='Compute order evidence: run the heads on the reversed window, too.',
    ),
    Parameter(
        name='memory_budget',
        description='Memory for each camera in which streaming heads keep exponentials of '
        'attention scores. Heads that need more compute the same scores, slower.',
        unit='MiB',
        minimum=0,
        maximum=65536,
    ),
    Parameter(
        name='active_tasks',
        description='Tasks that are published; a single empty name: all.',
        live=True,
    ),
    Parameter(
        name='top_k',
        description='Labels of each task in a hypothesis, best first.',
        unit='labels',
        minimum=1,
        maximum=1000,
        live=True,
    ),
    Parameter(
        name='smoothing',
        description='Time constant of the exponential smoothing of scores; 0: no smoothing.',
        unit='s',
        minimum=0.0,
        maximum=60.0,
        live=True,
    ),
    Parameter(
        name='on_threshold',
        description='An event starts when a label is the best one, with at least this score, for '
        '`minimum_duration`.',
        minimum=0.0,
        maximum=1.0,
        live=True,
    ),
    Parameter(
        name='off_threshold',
        description='An event ends when its label is not the best one, or below this score, for '
        '`minimum_gap`; at most `on_threshold`.',
        minimum=0.0,
        maximum=1.0,
        live=True,
    ),
    Parameter(
        name='minimum_duration',
        description='How long a label must hold, without a break, for its event to start.',
        unit='s',
        minimum=0.0,
        maximum=60.0,
        live=True,
    ),
    Parameter(
        name='minimum_gap',
        description='How long a label must not hold for its event to end; a shorter break does '
        'not end it.',
        unit='s',
        minimum=0.0,
        maximum=60.0,
        live=True,
    ),
    Parameter(
        name='minimum_order_evidence',
        description='Order evidence that a label with a counterpart needs for its event to start.',
        minimum=0.0,
        maximum=1.0,
        live=True,
    ),
    Parameter(
        name='ignored_labels',
        description='Labels that mean that nothing happens, in any task: they start no event, '
        'but end the event of another label.',
        live=True,
    ),
    Parameter(
        name='overlay_attention',
        description='Task whose attention map is drawn on `~/overlay`; empty: none.',
    ),
    Parameter(
        name='warn_period',
        description='Shortest time between two warnings about the same camera and cause.',
        unit='s',
        minimum=0.0,
        maximum=3600.0,
    ),
)

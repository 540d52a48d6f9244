"""The parameters of the perception node. Their defaults are in `config/perception.yaml`."""

from step_ros.ros.parameters import Parameter

DEFAULTS_FILE = 'perception.yaml'
# Name of the perception node without a namespace.
PERCEPTION = '/perception'
# Start of the log line that gives the reason; `NodeProcess.check` looks for it.
NOT_CONFIGURED = 'not configured'

# The executor is chosen when the node starts. The others are read when it is configured; a change
# takes effect then, but for those that are live: at once.
PARAMETERS = (
    Parameter(
        name='autostart',
        description='Configure and activate on starting, without a lifecycle manager.',
    ),
    Parameter(
        name='executor',
        description="What spins the node, chosen when it starts: `events`, rclpy's cheapest, "
        '`single`, or `auto`: events where rclpy has it.',
        choices=('auto', 'events', 'single'),
    ),
    Parameter(
        name='bundle',
        description='Model bundle: a folder, or the name of one that the package ships.',
    ),
    Parameter(
        name='device',
        description='Where the encoder runs: `auto` (CUDA where there is one), `cpu`, `cuda` or '
        '`cuda:N`.',
    ),
    Parameter(
        name='runtime',
        description='What runs the encoder: `torch`, `openvino`, `onnx`, `openvino-int8` as '
        'exported beside the bundle, the folder of an exported encoder, or `auto`: CUDA where '
        'there is one, else the faster of torch and OpenVINO. One that does not start is replaced '
        'by torch.',
    ),
    Parameter(
        name='precision',
        description='What the encoder computes with; `auto`: float32 on the CPU, bfloat16 or '
        'float16 on CUDA.',
        choices=('auto', 'float32', 'bfloat16', 'float16'),
    ),
    Parameter(
        name='threads',
        description='CPU threads of the model; 0: one where a frame takes at most half as long '
        'again with it as with all, else all.',
        minimum=0,
        maximum=256,
    ),
    Parameter(
        name='cameras',
        description='Names of the cameras, as they appear in the hypotheses.',
    ),
    Parameter(
        name='image_topics',
        description='Image topic of each camera, in the same order; without a leading slash it is '
        "in the node's namespace.",
    ),
    Parameter(
        name='active_cameras',
        description='Cameras that are looked at; a single empty name: all.',
        live=True,
    ),
    Parameter(
        name='fusion',
        description='Whether the cameras show one scene: `mean` answers for all of them at once, '
        'with the mean of the scores of synchronised views, as camera `fused`; `none`: each by '
        'itself.',
        choices=('none', 'mean'),
    ),
    Parameter(
        name='region_topics',
        description='Topic of each camera with the region to look at '
        '(`sensor_msgs/RegionOfInterest`), as of a person detector; empty for a camera without '
        'one. A single empty name: none has one.',
    ),
    Parameter(
        name='region_margin',
        description="Room around a region on each side, as a share of the region's size.",
        minimum=0.0,
        maximum=10.0,
    ),
    Parameter(
        name='region_timeout',
        description='How long a region holds; without a newer one the whole image is looked at.',
        unit='s',
        minimum=0.0,
        maximum=3600.0,
    ),
    Parameter(
        name='stream_timeout',
        description='How long a camera may send nothing until it is lost: its open events end, '
        'and so does waiting for it; 0: it is never lost.',
        unit='s',
        minimum=0.0,
        maximum=3600.0,
    ),
    Parameter(
        name='transport',
        description='`raw` (`sensor_msgs/Image`), `compressed` (`sensor_msgs/CompressedImage`), '
        'or `auto`: compressed where the topic ends in `/compressed`.',
        choices=('auto', 'raw', 'compressed'),
    ),
    Parameter(
        name='reliability',
        description='Reliability of the image subscriptions; `auto`: what the publisher offers.',
        choices=('auto', 'best_effort', 'reliable'),
    ),
    Parameter(
        name='queue_size',
        description='Grid frames of each camera that may wait. Where more would, the machine is '
        'overloaded: windows are dropped whole, and cameras take turns.',
        unit='grid frames',
        minimum=1,
        maximum=1000,
    ),
    Parameter(
        name='order_tolerance',
        description='How far behind a newer frame a frame may come and still count.',
        unit='s',
        minimum=0.0,
        maximum=10.0,
    ),
    Parameter(
        name='max_gap',
        description='A longer time between two grid frames restarts the window; 0: two and a half '
        'frame periods of the bundle.',
        unit='s',
        minimum=0.0,
        maximum=60.0,
    ),
    Parameter(
        name='jump_back',
        description='A frame further behind the newest one means that time jumped back (a looped '
        'bag, a simulation reset) and clears the window.',
        unit='s',
        minimum=0.01,
        maximum=60.0,
    ),
    Parameter(
        name='order_evidence',
        description='Run the heads on the reversed window too, to say how much order mattered.',
    ),
    Parameter(
        name='memory_budget',
        description='What the heads may keep of each camera to answer faster: exponentials of '
        'attention scores. Heads that need more than this answer the same, slower.',
        unit='MiB',
        minimum=0,
        maximum=65536,
    ),
    Parameter(
        name='active_tasks',
        description='Tasks whose answers are published; a single empty name: all.',
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
        description='Time constant with which scores follow those of the newest window; 0: they '
        'are its own.',
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
        description='How long a label must not hold for its event to end; shorter breaks are '
        'bridged.',
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
        description='Labels of any task that say that nothing happens: they start no event, but '
        'end that of another label.',
        live=True,
    ),
    Parameter(
        name='overlay_attention',
        description='Task of which `~/overlay` shows where its head looks; empty: none.',
    ),
    Parameter(
        name='warn_period',
        description='Shortest time between two warnings about the same camera and cause.',
        unit='s',
        minimum=0.0,
        maximum=3600.0,
    ),
)

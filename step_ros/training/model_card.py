"""The model card of a tabletop bundle, written from its metrics."""
from step_ros.model.bundle import Bundle
def model_card(bundle: Bundle) -> str:
    return ''

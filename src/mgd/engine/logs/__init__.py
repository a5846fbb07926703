"""Where a run's figures go besides its folder: TensorBoard, Weights & Biases, MLflow."""

from mgd.engine.logs.log import Log
from mgd.engine.logs.opening import check_logs, open_logs

__all__ = ["Log", "check_logs", "open_logs"]

"""Gates: what weights have to reach on people whom they were not trained on, beside the laziest baselines."""

from .motion import motion_scores
from .painting import painting_scores
from .report import gates_of, report, table
from .rule import Gate

__all__ = ["Gate", "gates_of", "motion_scores", "painting_scores", "report", "table"]

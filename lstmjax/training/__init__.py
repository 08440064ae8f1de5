"""Training as functions: what `lstmjax train`, `evaluate`, `predict` and `export` call.

from lstmjax.config import load_config
from lstmjax.training import train

result = train(load_config("configs/digits.yaml"))
print(result.test["accuracy"], result.trained.params)
"""

from lstmjax.training.apply import evaluate_run, predict_file
from lstmjax.training.export import export_run
from lstmjax.training.finite import Diverged
from lstmjax.training.inference import Prediction, Trained, evaluate, predict
from lstmjax.training.learning import Learning, learning
from lstmjax.training.loop import Interrupted, Result, load_checkpoints, load_run, resume, train

__all__ = [
    "Diverged",
    "Interrupted",
    "Learning",
    "Prediction",
    "Result",
    "Trained",
    "evaluate",
    "evaluate_run",
    "export_run",
    "learning",
    "load_checkpoints",
    "load_run",
    "predict",
    "predict_file",
    "resume",
    "train",
]

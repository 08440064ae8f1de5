"""Training as functions: what `lstmjax train`, `evaluate`, `predict` and `export` call.

from lstmjax.config import load_config
from lstmjax.training import train

result = train(load_config("configs/digits.yaml"))
print(result.test["accuracy"], result.trained.params)
"""

from lstmjax.training.apply import evaluate_run, predict_file
from lstmjax.training.evaluation import evaluate
from lstmjax.training.export import export_run
from lstmjax.training.finite import Diverged
from lstmjax.training.fit import Fitted, fit
from lstmjax.training.forward import Trained
from lstmjax.training.hooks import Hook, Hooks, Training
from lstmjax.training.inference import Prediction, predict
from lstmjax.training.learning import Learning, learning
from lstmjax.training.loop import Result, resume, train
from lstmjax.training.models import objective_of, parted
from lstmjax.training.reading import load_checkpoints, load_run
from lstmjax.training.run_hooks import Interrupted
from lstmjax.training.sampling import sample_text
from lstmjax.training.shards import make_mesh
from lstmjax.training.sources import Shuffled
from lstmjax.training.step import TrainState, gradient_statistics, make_train_step, start_state
from lstmjax.training.writers import TensorBoard, Writer, Writing

__all__ = [
    "Diverged",
    "Fitted",
    "Hook",
    "Hooks",
    "Interrupted",
    "Learning",
    "Prediction",
    "Result",
    "Shuffled",
    "TensorBoard",
    "TrainState",
    "Trained",
    "Training",
    "Writer",
    "Writing",
    "evaluate",
    "evaluate_run",
    "export_run",
    "fit",
    "gradient_statistics",
    "learning",
    "load_checkpoints",
    "load_run",
    "make_mesh",
    "make_train_step",
    "objective_of",
    "parted",
    "predict",
    "predict_file",
    "resume",
    "sample_text",
    "start_state",
    "train",
]

"""Keras."""

from lstmjax.draws import Preset, glorot_joint, orthogonal_joint
from lstmjax.frameworks.base.architecture import SETTINGS
from lstmjax.frameworks.base.card import Card, Drop, Note
from lstmjax.frameworks.base.framework import Container, Form, Framework, Peer
from lstmjax.frameworks.base.timing import Timed
from lstmjax.frameworks.keras import run, weights
from lstmjax.frameworks.keras.files import read_hdf5, read_keras, write_hdf5
from lstmjax.frameworks.keras.weights import LAYOUT

FORM = Form(
    r"(^|/)recurrent_kernel$",
    weights.read_names,
    weights.write_names,
    ("kernel", "bias"),
    weights.named,
    r"^_?optimizer(_weights)?/|(^|/)seed_generator(_\d+)?/",
)
PRESET = Preset(glorot_joint, orthogonal_joint, forget_bias=1.0, name="keras")
"""`keras.layers.LSTM`: Glorot uniform and orthogonal on the joint matrices, forget bias 1."""
CARD = Card(
    "keras",
    "keras.layers.LSTM",
    "keras/src/layers/rnn/lstm.py and optimizers/adam.py, Keras 3.15",
    ('params = init_params(key, I, H, init="keras")', "layers = from_keras(module)"),
    layout=LAYOUT,
    preset=PRESET,
    drops=(Drop("dropout", "inputs", "sequence"), Drop("recurrent_dropout", "h", "sequence", per_gate=True)),
    adam="adam_keras",
    notes=(
        Note("four masks", "with recurrent_dropout, dropout also draws a mask of the inputs for each gate."),
        Note("go_backwards", "outputs come in the order of processing; with reverse=True, in that of xs."),
        Note("hard_sigmoid", 'z/6 + 1/2, clipped to [0, 1]: the cell "hard_sigmoid_sixth".'),
        Note("momentum", "SGD's velocity holds the learning rate of each step; not so in Optax and PyTorch."),
        Note("float64", "on JAX, tanh rounds to float32; LSTM(H, activation=jnp.tanh) does not."),
    ),
)

ROW = Framework(
    "keras",
    LAYOUT,
    FORM,
    files=(
        Container((".weights.h5",), "HDF5 file", read_hdf5, write_hdf5, ("keras",)),
        Container((".h5", ".hdf5"), "HDF5 file", read_hdf5),
        Container((".keras",), "Keras file", read_keras),
    ),
    runs=SETTINGS,
    peer=Peer(
        "keras",
        "keras",
        "keras",
        run.run,
        (("float64", "its tanh is float32, on all of its backends but TensorFlow"),),
        parts=run.parts,
        itself=run.itself,
        load=run.load,
        beyond=run.beyond,
    ),
    cards=(CARD,),
    initial=(PRESET,),
    timed=(Timed("Keras on JAX", run.build_job, ("keras",)),),
)

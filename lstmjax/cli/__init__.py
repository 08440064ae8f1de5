"""The command line: parse the arguments, call a function, print its lines. JAX is imported only when needed."""

from __future__ import annotations

import logging
import re
import signal
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from lstmjax.cli.commands import Train, options_of
from lstmjax.cli.parsing import parse
from lstmjax.cli.running import COMMANDS
from lstmjax.cli.terminal import drop_output, plain_warnings, print_log, say, without_late_callbacks
from lstmjax.config import ConfigError
from lstmjax.errors import UserError, message_of
from lstmjax.launch import hosts_of, is_watched, watch
from lstmjax.signals import quitting, stopped
from lstmjax.writing import WriteError, reason_of

__all__ = ["COMMANDS", "HELP", "main", "print_log"]

HELP = """usage: lstmjax COMMAND ...

Train LSTM networks on sequences, and use them.

commands:
  train CONFIG                    train a network; the last line shows its metric
  train --resume RUN              continue a run that was stopped
  train CONFIG --dry-run          print shapes, parameters, memory and steps, and train nothing
  train CONFIG --seeds N          train N networks, and print mean and spread
  runs [DIR]                      list and compare runs
  sweep CONFIG SPACE              search for the best values of a configuration
  lr-find CONFIG                  find a learning rate
  data describe FILE              say what is understood of a file of data, and what must be said
  evaluate RUN                    print the loss and the metric of a run's network
  predict RUN INPUT               print classes and probabilities
  sample RUN --prompt TEXT        write text by a network that has learned one
  export RUN OUT                  write a run's network to .onnx or .stablehlo
  inspect RUN                     write a page that shows what happens inside a run's network
  forecast CONFIG                 fit many time series, measure, forecast and draw
  forecast --resume RUN           continue one that was stopped; hydrology has it, too
  backtest RUN                    measure the networks of a forecast at other origins
  hydrology CONFIG                fit many river basins, simulate their discharge, measure and draw
  convert IN OUT                  convert weights to another framework's file
  shapes --input I --hidden H     explain every array of a network
  verify WEIGHTS --input X.npy    tell whether a framework and lstmjax compute the same with these weights
  verify --grid                   the same for random networks and every installed framework
  bench                           time lstmjax and every installed peer

options:
  --version                       print the version
  COMMAND --help                  all options of a command
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    0: done; 1: failed; 2: wrong arguments; 128 + N: stopped by signal N; 141: the reader of the output is gone.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a closed one is None; a terminal that cannot show ü or ∂ must not fail
            stream.reconfigure(errors="backslashreplace")
    for name in ("absl", "asyncio"):  # orbax logs every detail; what matters it also raises
        logging.getLogger(name).setLevel(logging.CRITICAL)
    sys.excepthook = without_late_callbacks
    with quitting(words):
        with plain_warnings():
            code = _guarded(words)
        try:
            if sys.stdout is not None:
                sys.stdout.flush()  # at exit Python would report a closed pipe as a failure
        except BrokenPipeError:
            return drop_output(128 + 13)  # the exit code of SIGPIPE
        except OSError as error:
            if not code:
                say(str(WriteError("standard output", reason_of(error))))
            return drop_output(code or 1)
        return code


def _guarded(words: list[str]) -> int:
    """Run a command, and print an error that a user can put right as one line without a traceback."""
    try:
        return _run(words)
    except BrokenPipeError:
        return 128 + 13
    except UserError as error:
        kind = _kinds().get(words[0]) if words else None
        say(message_of(error).for_command({} if kind is None else options_of(kind)))
        return error.code
    except OSError as error:
        if error.errno is not None and error.filename is None:  # errors of files have a name, so this is from print
            error = WriteError("standard output", reason_of(error))
        say(f"{error}")
        return 1
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):  # JAX' word for no memory
            raise
        say("there is not enough memory; give less data, smaller batches or a smaller model")
        return 1
    except KeyboardInterrupt:
        say(stopped(words))
        return 128 + signal.SIGINT


def _kinds() -> dict[str, type]:
    """Return the commands by name: LrFind is lr-find."""
    return {re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower(): kind for kind in COMMANDS}


def _run(words: list[str]) -> int:
    names = _kinds()
    if not words or words[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0 if words else 2
    if words[0] == "--version":
        from lstmjax import __version__

        print(f"lstmjax {__version__}")
        return 0
    if words[0] not in names:
        near = get_close_matches(words[0], names, 1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(names)}"
        raise ConfigError(f"unknown command {words[0]!r}; {hint}")
    name, *options = words
    kind = names[name]
    command = parse(kind, name, options)
    several = isinstance(command, Train) and hosts_of(command.coordinator, command.processes, command.process)
    if several and not is_watched():
        return watch(words)
    try:
        return COMMANDS[kind](command) or 0
    except Exception as error:
        if type(error).__name__ != "Interrupted":  # by name, as importing the class would load JAX
            raise
        say(f"{error}")
        return 128 + error.signum  # type: ignore[attr-defined]

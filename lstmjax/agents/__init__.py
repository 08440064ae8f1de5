"""Recurrent agents: one network that acts step by step and is trained on trajectories; episodes, chunks, a T-maze."""

from lstmjax.agents.chunks import chunk, chunk_starts, chunk_states, minibatches
from lstmjax.agents.episodes import AUTORESETS, Episodes, Kind, episodes, next_kind, of_step_types
from lstmjax.agents.inspected import by_episode, inspect_agent
from lstmjax.agents.network import act, unroll
from lstmjax.agents.parameters import AgentParams, Trunk, init_agent, initial_state
from lstmjax.agents.tmaze import TMaze, TMazeState
from lstmjax.agents.traced import cue_question, trace_agent

__all__ = [
    "AUTORESETS",
    "AgentParams",
    "Episodes",
    "Kind",
    "TMaze",
    "TMazeState",
    "Trunk",
    "act",
    "by_episode",
    "chunk",
    "chunk_starts",
    "chunk_states",
    "cue_question",
    "episodes",
    "init_agent",
    "initial_state",
    "inspect_agent",
    "minibatches",
    "next_kind",
    "of_step_types",
    "trace_agent",
    "unroll",
]

"""Prints the milliseconds that a super-step of a LangGraph graph takes with the SQLite saver, each synced."""

import sqlite3
import time
from typing import TypedDict

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph

STEPS = 300


class State(TypedDict):
    number: int


def step(state: State) -> State:
    return {"number": state["number"] + 1}


def onward(state: State) -> str:
    return "step" if state["number"] < STEPS else END


connection = sqlite3.connect("langgraph.sqlite", check_same_thread=False)
connection.execute("PRAGMA synchronous=FULL")
graph = StateGraph(State)
graph.add_node("step", step)
graph.add_edge(START, "step")
graph.add_conditional_edges("step", onward)
compiled = graph.compile(checkpointer=SqliteSaver(connection))
config = {"configurable": {"thread_id": "1"}, "recursion_limit": STEPS + 10}
began = time.perf_counter()
compiled.invoke({"number": 0}, config, durability="sync")
print((time.perf_counter() - began) / STEPS * 1000)

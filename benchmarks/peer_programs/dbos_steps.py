"""Prints the milliseconds that a durable step of a DBOS workflow takes on SQLite; the steps do nothing."""

import time

from dbos import DBOS, DBOSConfig

STEPS = 300
config: DBOSConfig = {"name": "bench", "system_database_url": "sqlite:///dbos.sqlite", "log_level": "ERROR"}
DBOS(config=config)


@DBOS.step()
def step(number: int) -> int:
    return number


@DBOS.workflow()
def loop() -> float:
    step(0)
    began = time.perf_counter()
    for number in range(STEPS):
        step(number)
    return (time.perf_counter() - began) / STEPS


DBOS.launch()
taken_s = loop()
DBOS.destroy()
print(taken_s * 1000)

"""The rows, in the order they are measured: each module has a TITLE and ``measure(quick)``."""

ROWS = (
    "start_up",
    "whole_run",
    "durable_cycle",
    "ledger_read",
    "resume",
    "snapshot_first",
    "snapshot_next",
    "snapshot_large",
    "group_commit",
    "idempotency_key",
    "batch",
    "idle",
)

"""Chaos: a workload of scripted agents under random kills, and the count of what they cost.

Nothing in the program knows of it. Processes are killed from outside, by identity; what happened is read from the
ledger, from the agents' journals and from the kernel.
"""

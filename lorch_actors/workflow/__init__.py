"""The functional core: what an entry means (`fold`) and what comes next (`decide`).

Pure values and pure functions; imports `protocol` and nothing else. Time, randomness and identities come in as
arguments, so a run, its resume, its verification and its simulation are the same computation.
"""

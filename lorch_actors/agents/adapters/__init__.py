"""Agents that are somebody else's coding-agent CLI: our protocol on one side, theirs on the other.

`client` says what has to be known about one CLI, `reader` what its stream means, `foreign` runs it, `adapter` is the
agent around them. One module a CLI. What came of a turn is one of the kinds in `outcome`, for all of them.
"""

"""What stands beside the ledgers: reading runs back, projecting them into files, checking every promise.

Joins `workflow` (what entries mean) and `storage` (where they lie); knows no actor.
"""

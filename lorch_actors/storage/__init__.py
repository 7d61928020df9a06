"""Everything durable on disk. Knows no actor."""

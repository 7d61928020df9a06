"""The functional core: what an entry means and what comes next. Pure values and functions; imports `protocol` only."""

def excerpt(text: str, limit: int) -> str:
    """Return the beginning of the text, at most limit characters, cut at a space where there is one."""
    if limit < 1:
        raise ValueError("the limit is at least 1")
    if len(text) <= limit:
        return text
    head = text[: limit - 1]
    return (head.rpartition(" ")[0] or head) + "…"

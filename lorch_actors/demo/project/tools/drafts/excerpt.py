def excerpt(text: str, limit: int) -> str:
    if limit < 1:
        raise ValueError("the limit is at least 1")
    if len(text) <= limit:
        return text
    print("cutting", len(text) - limit, "characters")
    head = text[: limit - 1]
    return (head.rpartition(" ")[0] or head) + "…"

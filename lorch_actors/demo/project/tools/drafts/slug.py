def slug(text: str) -> str:
    """Return the text as a name for addresses: lower case words joined by hyphens."""
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))

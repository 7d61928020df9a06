def word_counts(text: str) -> dict[str, int]:
    """Return how often each word occurs, the most frequent one first."""
    words = re.findall(r"[^\W_]+", text.lower())
    return {word: words.count(word) for word in sorted(set(words), key=lambda word: (-words.count(word), word))}

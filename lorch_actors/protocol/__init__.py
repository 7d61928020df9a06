"""What crosses a pipe or stands in a file: messages, framing, identifiers, canonical form. Pure; imports nothing of ours but errors."""

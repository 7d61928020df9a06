"""What crosses a pipe or stands in a file: messages, framing, identifiers, canonical form.

Pure: nothing here opens, reads or writes anything.
"""

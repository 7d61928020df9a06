"""What is fast, and how we know: a file for each row, run by ``python -m benchmarks``; read docs/PERFORMANCE.md."""

//! destination-jsonl

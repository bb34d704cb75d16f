"""A small model server behind memoserve: sentiment, summarization and question answering."""

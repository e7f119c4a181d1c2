"""One run, from sources to records: files one after another, live cameras side by side."""

"""The method with one part changed at a time, its rivals, and how all of them are judged."""

"""One HTML page of a bundle: what a report tells, its charts, its template."""
